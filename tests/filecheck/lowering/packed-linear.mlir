// RUN: torsh-opt %s -O | filecheck %s
// RUN: torsh-opt %s --emit kern | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s --emit llvm | filecheck %s --check-prefix=LLVM
// RUN: torsh-opt %s --emit llvm --target x86-64-v2 | filecheck %s --check-prefix=V2

// A product with a weight: packed at compile time; bias and relu are the kernel's epilogue.
// CHECK-LABEL: func.func @prepare
// CHECK:         torsh.transpose {{.*}} -> tensor<1x1x4x8xf32>
// CHECK-LABEL: func.func @main
// CHECK:         torsh.fused
// CHECK:           %[[L:.*]] = torsh.packed_linear
// CHECK:           %[[A:.*]] = torsh.add %[[L]]
// CHECK:           torsh.relu %[[A]]
// CHECK:           torsh.yield
// CHECK-NOT:     torsh.fused

// KERN:       kern.template {params = #kern.params<GemmParams(n=3, k=4{{.*}}template = "gemm"}
// KERN-NEXT:  ^bb0(%[[V:.*]]: f32, %[[ROW:.*]]: index, %[[COLUMN:.*]]: index):
// KERN:         kern.load
// KERN:         kern.binary %[[V]], {{.*}} {kind = "add"}
// KERN:         kern.binary {{.*}} {kind = "max"}
// KERN:         kern.yield

// LLVM:       call <8 x float> @llvm.fmuladd.v8f32
// LLVM:       call void @llvm.masked.store.v8f32
// V2:         call <4 x float> @llvm.fmuladd.v4f32
// V2-NOT:     <8 x float>
func.func @main(%x: tensor<?x4xf32, #torsh.dims<[n, 4]>>) -> tensor<?x3xf32, #torsh.dims<[n, 3]>> attributes {torsh.symbols = {n = array<i64: 1, 64>}} {
  %w = torsh.weight {id = "w", type = tensor<3x4xf32>} : () -> tensor<3x4xf32>
  %b = torsh.weight {id = "b", type = tensor<3xf32>} : () -> tensor<3xf32>
  %y = torsh.linear %x, %w, %b : (tensor<?x4xf32, #torsh.dims<[n, 4]>>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<?x3xf32, #torsh.dims<[n, 3]>>
  %r = torsh.relu %y : (tensor<?x3xf32, #torsh.dims<[n, 3]>>) -> tensor<?x3xf32, #torsh.dims<[n, 3]>>
  func.return %r : tensor<?x3xf32, #torsh.dims<[n, 3]>>
}
