// RUN: torsh-opt %s -O --numerics strict | filecheck %s
// RUN: torsh-opt %s --emit kern --numerics strict | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s --emit llvm --numerics strict | filecheck %s --check-prefix=LLVM

// A 3x3 convolution: channels-last, filters packed by @prepare, relu in the epilogue.
// CHECK-LABEL: func.func @prepare
// CHECK-LABEL: func.func @main
// CHECK:         torsh.transpose
// CHECK:         torsh.fused
// CHECK-NEXT:    ^bb0
// CHECK-NEXT:      %[[C:.*]] = torsh.packed_conv {{.*}} {algorithm = "indirect"
// CHECK-NEXT:      torsh.relu %[[C]]

// KERN:       kern.template {params = #kern.params<ConvParams(in_channels=8, out_channels=8
// KERN-NEXT:  ^bb0(%[[V:.*]]: f32,
// KERN:         kern.binary %[[V]], {{.*}} {kind = "max"}

// Rows of padding are read from zeros.
// LLVM:       @zeros_float_8 = private unnamed_addr constant [8 x float] zeroinitializer
// LLVM:       define void @{{[a-z_]+}}_
// LLVM:       call <8 x float> @llvm.fmuladd.v8f32
func.func @main(%x: tensor<1x8x8x8xf32>) -> tensor<1x8x8x8xf32> {
  %w = torsh.weight {id = "w", type = tensor<8x8x3x3xf32>} : () -> tensor<8x8x3x3xf32>
  %c = torsh.conv %x, %w {pads = array<i64: 1, 1, 1, 1>} : (tensor<1x8x8x8xf32>, tensor<8x8x3x3xf32>) -> tensor<1x8x8x8xf32>
  %r = torsh.relu %c : (tensor<1x8x8x8xf32>) -> tensor<1x8x8x8xf32>
  func.return %r : tensor<1x8x8x8xf32>
}
