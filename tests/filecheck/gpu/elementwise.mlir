// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit gpu | filecheck %s --check-prefix=GPU
// RUN: torsh-opt %s --emit gpu | filecheck %s --check-prefix=GPU
// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit nvptx | filecheck %s --check-prefix=NVPTX
// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit ptx | filecheck %s --check-prefix=PTX
// RUN: torsh-opt %s --emit gpu | torsh-opt --emit ptx | filecheck %s --check-prefix=PTX

// A row is a block; threads take its elements in turn.
// GPU:      kern.for %unit
// GPU:        kern.for %thread, {{.*}} {step = 256 : i64}
// GPU:          kern.load %in
// GPU:          kern.load %in_1
// GPU:          kern.math {{.*}} {function = "exp"}
// GPU:          kern.store {{.*}}, %out
// GPU:      gpu.known_block_size = array<i32: 256, 1, 1>

// The maths is code, one lane wide.
// NVPTX:     load float
// NVPTX:     call float @llvm.fmuladd.f32
// NVPTX:     store float
// NVPTX-NOT: call {{.*}}exp

// PTX:     ld.global.nc.b32
// PTX:     fma.rn.f32
// PTX:     st.global.b32
// PTX-NOT: .extern
// PTX-NOT: call
func.func @main(%x: tensor<8x1000xf32>, %y: tensor<1000xf32>) -> tensor<8x1000xf32> {
  %a = torsh.add %x, %y : (tensor<8x1000xf32>, tensor<1000xf32>) -> tensor<8x1000xf32>
  %r = torsh.exp %a : (tensor<8x1000xf32>) -> tensor<8x1000xf32>
  func.return %r : tensor<8x1000xf32>
}
