// RUN: torsh-opt %s -p widen-halves --split-input-file | filecheck %s

// Fires: the product is computed in f32 and rounded once.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[X:.*]] = torsh.cast %x {to = f32}
// CHECK-NEXT:    %[[W:.*]] = torsh.cast %w {to = f32}
// CHECK-NEXT:    %[[B:.*]] = torsh.cast %b {to = f32}
// CHECK-NEXT:    %[[Y:.*]] = torsh.linear %[[X]], %[[W]], %[[B]]
// CHECK-NEXT:    torsh.cast %[[Y]] {to = bf16}
func.func @main(%x: tensor<2x4xbf16>, %w: tensor<3x4xbf16>, %b: tensor<3xbf16>) -> tensor<2x3xbf16> {
  %y = torsh.linear %x, %w, %b : (tensor<2x4xbf16>, tensor<3x4xbf16>, tensor<3xbf16>) -> tensor<2x3xbf16>
  func.return %y : tensor<2x3xbf16>
}

// -----

// Fires: the mask of an attention is not a half.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.attention %{{.*}}, %{{.*}}, %{{.*}}, %m {causal = true} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<3x3xi1>)
func.func @main(%x: tensor<1x2x3x4xf16>, %m: tensor<3x3xi1>) -> tensor<1x2x3x4xf16> {
  %y = torsh.attention %x, %x, %x, %m {causal = true} : (tensor<1x2x3x4xf16>, tensor<1x2x3x4xf16>, tensor<1x2x3x4xf16>, tensor<3x3xi1>) -> tensor<1x2x3x4xf16>
  func.return %y : tensor<1x2x3x4xf16>
}

// -----

// Does not fire: f32, and an op without a template.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.cast
func.func @main(%x: tensor<2x4xf32>, %w: tensor<3x4xf32>, %h: tensor<2x4xf16>) -> (tensor<2x3xf32>, tensor<2xf16>) {
  %y = torsh.linear %x, %w : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  %z = torsh.sum %h {axes = array<i64: 1>} : (tensor<2x4xf16>) -> tensor<2xf16>
  func.return %y, %z : tensor<2x3xf32>, tensor<2xf16>
}
