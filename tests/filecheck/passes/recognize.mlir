// RUN: torsh-opt %s -p recognize --split-input-file | filecheck %s
// RUN: torsh-opt %s -p recognize --numerics strict --split-input-file | filecheck %s --check-prefix=STRICT

// Fires: written-out attention with a scale and a mask is one op; NaN for rows that see no key.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.attention %{{.*}}, %{{.*}}, %v, %mask {nan_unseen = true, scale = 5.000000e-01 : f64}
// CHECK-NOT:     torsh.softmax
// STRICT-LABEL: func.func @main
// STRICT-NOT:    torsh.attention
// STRICT:        torsh.softmax
func.func @main(%q: tensor<2x3x5x4xf32>, %k: tensor<2x3x7x4xf32>, %v: tensor<2x3x7x6xf32>, %mask: tensor<5x7xf32>) -> tensor<2x3x5x6xf32> {
  %kt = torsh.transpose %k {perm = array<i64: 0, 1, 3, 2>} : (tensor<2x3x7x4xf32>) -> tensor<2x3x4x7xf32>
  %p = torsh.matmul %q, %kt : (tensor<2x3x5x4xf32>, tensor<2x3x4x7xf32>) -> tensor<2x3x5x7xf32>
  %c = torsh.constant {value = #torsh.literal<"f32", [], [2.0]>} : () -> tensor<f32>
  %s = torsh.div %p, %c : (tensor<2x3x5x7xf32>, tensor<f32>) -> tensor<2x3x5x7xf32>
  %m = torsh.add %s, %mask : (tensor<2x3x5x7xf32>, tensor<5x7xf32>) -> tensor<2x3x5x7xf32>
  %w = torsh.softmax %m {axis = -1 : i64} : (tensor<2x3x5x7xf32>) -> tensor<2x3x5x7xf32>
  %y = torsh.matmul %w, %v : (tensor<2x3x5x7xf32>, tensor<2x3x7x6xf32>) -> tensor<2x3x5x6xf32>
  func.return %y : tensor<2x3x5x6xf32>
}

// -----

// Does not fire: the weights of the attention are a result too.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.attention
func.func @main(%q: tensor<2x3x5x4xf32>, %kt: tensor<2x3x4x7xf32>, %v: tensor<2x3x7x6xf32>) -> (tensor<2x3x5x6xf32>, tensor<2x3x5x7xf32>) {
  %p = torsh.matmul %q, %kt : (tensor<2x3x5x4xf32>, tensor<2x3x4x7xf32>) -> tensor<2x3x5x7xf32>
  %w = torsh.softmax %p {axis = -1 : i64} : (tensor<2x3x5x7xf32>) -> tensor<2x3x5x7xf32>
  %y = torsh.matmul %w, %v : (tensor<2x3x5x7xf32>, tensor<2x3x7x6xf32>) -> tensor<2x3x5x6xf32>
  func.return %y, %w : tensor<2x3x5x6xf32>, tensor<2x3x5x7xf32>
}

// -----

// Fires: a layer norm as exporters write it before opset 17, with scale and bias.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.layer_norm %x, %g, %b {axis = 1 : i64, epsilon = {{9.99999.*e-06}} : f64
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<3x8xf32>, %g: tensor<8xf32>, %b: tensor<8xf32>) -> tensor<3x8xf32> {
  %m = torsh.mean %x {axes = array<i64: -1>, keepdims = true} : (tensor<3x8xf32>) -> tensor<3x1xf32>
  %d = torsh.sub %x, %m : (tensor<3x8xf32>, tensor<3x1xf32>) -> tensor<3x8xf32>
  %two = torsh.constant {value = #torsh.literal<"f32", [], [2.0]>} : () -> tensor<f32>
  %q = torsh.pow %d, %two : (tensor<3x8xf32>, tensor<f32>) -> tensor<3x8xf32>
  %v = torsh.mean %q {axes = array<i64: -1>, keepdims = true} : (tensor<3x8xf32>) -> tensor<3x1xf32>
  %e = torsh.constant {value = #torsh.literal<"f32", [], "acc52737">} : () -> tensor<f32>
  %a = torsh.add %v, %e : (tensor<3x1xf32>, tensor<f32>) -> tensor<3x1xf32>
  %r = torsh.sqrt %a : (tensor<3x1xf32>) -> tensor<3x1xf32>
  %n = torsh.div %d, %r : (tensor<3x8xf32>, tensor<3x1xf32>) -> tensor<3x8xf32>
  %s = torsh.mul %n, %g : (tensor<3x8xf32>, tensor<8xf32>) -> tensor<3x8xf32>
  %y = torsh.add %s, %b : (tensor<3x8xf32>, tensor<8xf32>) -> tensor<3x8xf32>
  func.return %y : tensor<3x8xf32>
}

// -----

// Fires: an RMS norm, by the inverse of its spread.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.rms_norm %x, %g {axis = 1 : i64, epsilon = 1.000000e+00 : f64}
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<3x8xf32>, %g: tensor<8xf32>) -> tensor<3x8xf32> {
  %q = torsh.mul %x, %x : (tensor<3x8xf32>, tensor<3x8xf32>) -> tensor<3x8xf32>
  %v = torsh.mean %q {axes = array<i64: 1>, keepdims = true} : (tensor<3x8xf32>) -> tensor<3x1xf32>
  %e = torsh.constant {value = #torsh.literal<"f32", [], [1.0]>} : () -> tensor<f32>
  %a = torsh.add %v, %e : (tensor<3x1xf32>, tensor<f32>) -> tensor<3x1xf32>
  %r = torsh.rsqrt %a : (tensor<3x1xf32>) -> tensor<3x1xf32>
  %n = torsh.mul %x, %r : (tensor<3x8xf32>, tensor<3x1xf32>) -> tensor<3x8xf32>
  %y = torsh.mul %g, %n : (tensor<8xf32>, tensor<3x8xf32>) -> tensor<3x8xf32>
  func.return %y : tensor<3x8xf32>
}

// -----

// Does not fire: the spread is another tensor's.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.rms_norm
func.func @main(%x: tensor<3x8xf32>, %z: tensor<3x8xf32>) -> tensor<3x8xf32> {
  %q = torsh.mul %z, %z : (tensor<3x8xf32>, tensor<3x8xf32>) -> tensor<3x8xf32>
  %v = torsh.mean %q {axes = array<i64: 1>, keepdims = true} : (tensor<3x8xf32>) -> tensor<3x1xf32>
  %e = torsh.constant {value = #torsh.literal<"f32", [], [1.0]>} : () -> tensor<f32>
  %a = torsh.add %v, %e : (tensor<3x1xf32>, tensor<f32>) -> tensor<3x1xf32>
  %r = torsh.rsqrt %a : (tensor<3x1xf32>) -> tensor<3x1xf32>
  %n = torsh.mul %x, %r : (tensor<3x8xf32>, tensor<3x1xf32>) -> tensor<3x8xf32>
  func.return %n : tensor<3x8xf32>
}
