// RUN: torsh-opt %s --emit kern | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s --emit llvm | filecheck %s --check-prefix=LLVM
// RUN: torsh-opt %s --emit llvm --target x86-64-v2 | filecheck %s --check-prefix=LLVM
// RUN: torsh-opt %s --emit llvm --target aarch64 | filecheck %s --check-prefix=LLVM

// The fold says its order: 32 virtual lanes, blocks of 4096 elements.
// KERN-LABEL: kern.func {kind = "kernel"
// KERN:         kern.reduce {{.*}} {block = 4096 : i64, lanes = 32 : i64}
// KERN:           kern.load %in
// KERN:           kern.binary {{.*}} {kind = "add"}

// Every target adds in the same order: 32 lanes, the tail masked, then a tree 16, 8, 4, 2, 1.
// LLVM-LABEL: define void @{{[a-z_]+}}_
// LLVM:         fadd <32 x float>
// LLVM:         @llvm.masked.load
// LLVM:         fadd <32 x float>
// LLVM:         fadd <16 x float>
// LLVM:         fadd <8 x float>
// LLVM:         fadd <4 x float>
// LLVM:         fadd <2 x float>
// LLVM:         fadd float
// LLVM:         store float
func.func @main(%x: tensor<4x100xf32>) -> tensor<4xf32> {
  %r = torsh.sum %x {axes = array<i64: 1>} : (tensor<4x100xf32>) -> tensor<4xf32>
  func.return %r : tensor<4xf32>
}
