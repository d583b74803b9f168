// RUN: torsh-opt %s -p fold-batch-norm,canonicalize --split-input-file | filecheck %s
// RUN: torsh-opt %s -p fold-batch-norm,canonicalize --split-input-file --numerics strict | filecheck %s --check-prefix=STRICT
// RUN: torsh-opt %s -p fold-batch-norm,canonicalize --split-input-file --disable-rewrite fold-batch-norm | filecheck %s --check-prefix=STRICT

// Fires: the filters are scaled, and the shift becomes the bias.
// CHECK-LABEL: func.func @main
// CHECK:         %[[S:.*]] = torsh.div %s
// CHECK:         %[[SHIFT:.*]] = torsh.sub %b
// CHECK:         %[[ROWS:.*]] = torsh.reshape %[[S]] {target = #torsh.dims<{{\[}}4, 1, 1, 1]>}
// CHECK-NEXT:    %[[W:.*]] = torsh.mul %w, %[[ROWS]]
// CHECK-NEXT:    %r = torsh.conv %x, %[[W]], %[[SHIFT]]
// CHECK-NOT:     torsh.batch_norm
// STRICT-LABEL: func.func @main
// STRICT:        torsh.batch_norm
func.func @main(%x: tensor<1x3x8x8xf32>) -> tensor<1x4x8x8xf32> {
  %w = torsh.weight {id = "w", type = tensor<4x3x3x3xf32>} : () -> tensor<4x3x3x3xf32>
  %s = torsh.weight {id = "s", type = tensor<4xf32>} : () -> tensor<4xf32>
  %b = torsh.weight {id = "b", type = tensor<4xf32>} : () -> tensor<4xf32>
  %m = torsh.weight {id = "m", type = tensor<4xf32>} : () -> tensor<4xf32>
  %v = torsh.weight {id = "v", type = tensor<4xf32>} : () -> tensor<4xf32>
  %c = torsh.conv %x, %w {pads = array<i64: 1, 1, 1, 1>} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x8x8xf32>
  %r = torsh.batch_norm %c, %s, %b, %m, %v {epsilon = 1.0e-05 : f64} : (tensor<1x4x8x8xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x4x8x8xf32>
  func.return %r : tensor<1x4x8x8xf32>
}

// -----

// Does not fire: the convolution's result has a second use.
// CHECK-LABEL: func.func @main
// CHECK:         %c = torsh.conv %x, %w
// CHECK-NEXT:    torsh.batch_norm %c
func.func @main(%x: tensor<1x2x4xf32>) -> (tensor<1x2x4xf32>, tensor<1x2x4xf32>) {
  %w = torsh.weight {id = "w", type = tensor<2x2x1xf32>} : () -> tensor<2x2x1xf32>
  %s = torsh.weight {id = "s", type = tensor<2xf32>} : () -> tensor<2xf32>
  %c = torsh.conv %x, %w : (tensor<1x2x4xf32>, tensor<2x2x1xf32>) -> tensor<1x2x4xf32>
  %r = torsh.batch_norm %c, %s, %s, %s, %s {epsilon = 1.0e-05 : f64} : (tensor<1x2x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4xf32>
  func.return %r, %c : tensor<1x2x4xf32>, tensor<1x2x4xf32>
}

// -----

// Does not fire: the scale is an input, so it is not known before a call.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.conv %x, %w
// CHECK-NEXT:    torsh.batch_norm
func.func @main(%x: tensor<1x2x4xf32>, %s: tensor<2xf32>) -> tensor<1x2x4xf32> {
  %w = torsh.weight {id = "w", type = tensor<2x2x1xf32>} : () -> tensor<2x2x1xf32>
  %c = torsh.conv %x, %w : (tensor<1x2x4xf32>, tensor<2x2x1xf32>) -> tensor<1x2x4xf32>
  %r = torsh.batch_norm %c, %s, %s, %s, %s {epsilon = 1.0e-05 : f64} : (tensor<1x2x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4xf32>
  func.return %r : tensor<1x2x4xf32>
}
