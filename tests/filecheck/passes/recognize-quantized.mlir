// RUN: torsh-opt %s -p recognize-quantized,canonicalize --split-input-file | filecheck %s
// RUN: torsh-opt %s -p recognize-quantized,canonicalize --split-input-file --numerics strict | filecheck %s --check-prefix=STRICT
// RUN: torsh-opt %s -p recognize-quantized,canonicalize --split-input-file --disable-rewrite recognize-quantized | filecheck %s --check-prefix=STRICT

// Fires: the product sums integers; the quantisation's scale goes into the factor and the bias.
// CHECK-LABEL: func.func @main
// CHECK:         %[[B:.*]] = torsh.transpose %q {{.*}} -> tensor<64x16xi8>
// CHECK:         %[[T:.*]] = torsh.matmul_integer %a, %[[B]], %z
// CHECK-NOT:     torsh.linear
// CHECK:         torsh.cast %[[T]]
// CHECK:         torsh.relu
// CHECK:         torsh.round
// CHECK-NOT:     torsh.quantize_linear
// STRICT-LABEL: func.func @main
// STRICT:        torsh.linear
// STRICT:        torsh.quantize_linear
func.func @main(%a: tensor<2x64xui8>) -> tensor<2x16xui8> {
  %q = torsh.weight {id = "q", type = tensor<16x64xi8>} : () -> tensor<16x64xi8>
  %s = torsh.weight {id = "s", type = tensor<16xf32>} : () -> tensor<16xf32>
  %b = torsh.weight {id = "b", type = tensor<16xf32>} : () -> tensor<16xf32>
  %e = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %z = torsh.constant {value = #torsh.literal<"ui8", [], [5]>} : () -> tensor<ui8>
  %x = torsh.dequantize_linear %a, %e, %z : (tensor<2x64xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x64xf32>
  %w = torsh.dequantize_linear %q, %s {axis = 0 : i64} : (tensor<16x64xi8>, tensor<16xf32>) -> tensor<16x64xf32>
  %l = torsh.linear %x, %w, %b : (tensor<2x64xf32>, tensor<16x64xf32>, tensor<16xf32>) -> tensor<2x16xf32>
  %r = torsh.relu %l : (tensor<2x16xf32>) -> tensor<2x16xf32>
  %y = torsh.quantize_linear %r, %e, %z {to = ui8} : (tensor<2x16xf32>, tensor<f32>, tensor<ui8>) -> tensor<2x16xui8>
  func.return %y : tensor<2x16xui8>
}

// -----

// Fires: filters with a scale each.
// CHECK-LABEL: func.func @main
// CHECK:         %[[T:.*]] = torsh.conv_integer %a, %q {operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads = array<i64: 1, 1, 1, 1>}
// CHECK:         %[[F:.*]] = torsh.reshape {{.*}} -> tensor<1x4x1x1xf32>
// CHECK:         torsh.mul {{.*}}, %[[F]]
// STRICT-LABEL: func.func @main
// STRICT:        torsh.conv %x
func.func @main(%a: tensor<1x3x8x8xi8>) -> tensor<1x4x8x8xf32> {
  %q = torsh.weight {id = "q", type = tensor<4x3x3x3xi8>} : () -> tensor<4x3x3x3xi8>
  %s = torsh.weight {id = "s", type = tensor<4xf32>} : () -> tensor<4xf32>
  %e = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %x = torsh.dequantize_linear %a, %e : (tensor<1x3x8x8xi8>, tensor<f32>) -> tensor<1x3x8x8xf32>
  %w = torsh.dequantize_linear %q, %s {axis = 0 : i64} : (tensor<4x3x3x3xi8>, tensor<4xf32>) -> tensor<4x3x3x3xf32>
  %y = torsh.conv %x, %w {pads = array<i64: 1, 1, 1, 1>} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x8x8xf32>
  func.return %y : tensor<1x4x8x8xf32>
}

// -----

// Fires everywhere: a round trip changes no value.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    func.return %a
// STRICT-LABEL: func.func @main
// STRICT-NEXT:   func.return %a
func.func @main(%a: tensor<4xi8>) -> tensor<4xi8> {
  %e = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %x = torsh.dequantize_linear %a, %e : (tensor<4xi8>, tensor<f32>) -> tensor<4xf32>
  %y = torsh.quantize_linear %x, %e {to = i8} : (tensor<4xf32>, tensor<f32>) -> tensor<4xi8>
  func.return %y : tensor<4xi8>
}

// -----

// Does not fire: a scale along the contracted axis cannot leave the sum.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.linear
// STRICT-LABEL: func.func @main
func.func @main(%a: tensor<2x64xui8>) -> tensor<2x16xf32> {
  %q = torsh.weight {id = "q", type = tensor<16x64xi8>} : () -> tensor<16x64xi8>
  %s = torsh.weight {id = "s", type = tensor<64xf32>} : () -> tensor<64xf32>
  %e = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %w = torsh.dequantize_linear %q, %s {axis = 1 : i64} : (tensor<16x64xi8>, tensor<64xf32>) -> tensor<16x64xf32>
  %x = torsh.dequantize_linear %a, %e : (tensor<2x64xui8>, tensor<f32>) -> tensor<2x64xf32>
  %l = torsh.linear %x, %w : (tensor<2x64xf32>, tensor<16x64xf32>) -> tensor<2x16xf32>
  func.return %l : tensor<2x16xf32>
}

// -----

// Does not fire: 16-bit integers.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.linear
// STRICT-LABEL: func.func @main
func.func @main(%a: tensor<2x64xi16>) -> tensor<2x16xf32> {
  %q = torsh.weight {id = "q", type = tensor<16x64xi8>} : () -> tensor<16x64xi8>
  %e = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %w = torsh.dequantize_linear %q, %e : (tensor<16x64xi8>, tensor<f32>) -> tensor<16x64xf32>
  %x = torsh.dequantize_linear %a, %e : (tensor<2x64xi16>, tensor<f32>) -> tensor<2x64xf32>
  %l = torsh.linear %x, %w : (tensor<2x64xf32>, tensor<16x64xf32>) -> tensor<2x16xf32>
  func.return %l : tensor<2x16xf32>
}

// -----

// Fires: a sum of dequantised values is quantised by the reciprocal of the scale; in strict
// numerics it stays a quotient. A dequantisation moves to its use.
// CHECK-LABEL: func.func @main
// CHECK:         %[[R:.*]] = torsh.div
// CHECK:         torsh.mul {{.*}}, %[[R]]
// CHECK:         torsh.dequantize_linear %c
// CHECK-NEXT:    torsh.tanh
// STRICT-LABEL: func.func @main
// STRICT:        torsh.quantize_linear
// STRICT-NEXT:   torsh.dequantize_linear %c
// STRICT-NEXT:   torsh.tanh
func.func @main(%a: tensor<4xi8>, %b: tensor<4xi8>, %c: tensor<4xi8>) -> (tensor<4xi8>, tensor<4xf32>) {
  %e = torsh.constant {value = #torsh.literal<"f32", [], [0.3]>} : () -> tensor<f32>
  %x = torsh.dequantize_linear %a, %e : (tensor<4xi8>, tensor<f32>) -> tensor<4xf32>
  %y = torsh.dequantize_linear %b, %e : (tensor<4xi8>, tensor<f32>) -> tensor<4xf32>
  %z = torsh.dequantize_linear %c, %e : (tensor<4xi8>, tensor<f32>) -> tensor<4xf32>
  %s = torsh.add %x, %y : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %q = torsh.quantize_linear %s, %e {to = i8} : (tensor<4xf32>, tensor<f32>) -> tensor<4xi8>
  %t = torsh.tanh %z : (tensor<4xf32>) -> tensor<4xf32>
  func.return %q, %t : tensor<4xi8>, tensor<4xf32>
}

// -----

// Fires: both factors are activations, the right one transposed as it is multiplied.
// CHECK-LABEL: func.func @main
// CHECK:         %[[B:.*]] = torsh.transpose %b {perm = array<i64: 0, 2, 1>} : (tensor<2x7x64xui8>) -> tensor<2x64x7xui8>
// CHECK:         torsh.matmul_integer %a, %[[B]], {{.*}} -> tensor<2x5x7xi32>
// CHECK-NOT:     torsh.matmul{{ }}
// STRICT-LABEL: func.func @main
// STRICT-NOT:    torsh.matmul_integer
func.func @main(%a: tensor<2x5x64xui8>, %b: tensor<2x7x64xui8>) -> tensor<2x5x7xf32> {
  %s = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %z = torsh.constant {value = #torsh.literal<"ui8", [], [3]>} : () -> tensor<ui8>
  %x = torsh.dequantize_linear %a, %s, %z : (tensor<2x5x64xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x5x64xf32>
  %w = torsh.dequantize_linear %b, %s, %z : (tensor<2x7x64xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x7x64xf32>
  %t = torsh.transpose %w {perm = array<i64: 0, 2, 1>} : (tensor<2x7x64xf32>) -> tensor<2x64x7xf32>
  %y = torsh.matmul %x, %t : (tensor<2x5x64xf32>, tensor<2x64x7xf32>) -> tensor<2x5x7xf32>
  func.return %y : tensor<2x5x7xf32>
}

// -----

// Does not fire: the stacks broadcast.
// CHECK-LABEL: func.func @main
// STRICT-LABEL: func.func @main
// CHECK:         torsh.matmul{{ }}
func.func @main(%a: tensor<2x5x64xui8>, %b: tensor<1x64x7xui8>) -> tensor<2x5x7xf32> {
  %s = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %x = torsh.dequantize_linear %a, %s : (tensor<2x5x64xui8>, tensor<f32>) -> tensor<2x5x64xf32>
  %w = torsh.dequantize_linear %b, %s : (tensor<1x64x7xui8>, tensor<f32>) -> tensor<1x64x7xf32>
  %y = torsh.matmul %x, %w : (tensor<2x5x64xf32>, tensor<1x64x7xf32>) -> tensor<2x5x7xf32>
  func.return %y : tensor<2x5x7xf32>
}

// -----

// Fires everywhere: what is moved or pooled by its maximum between two such steps moves as bytes.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[P:.*]] = torsh.max_pool %a {{.*}} -> tensor<1x4x4x4xui8>
// CHECK-NEXT:    %[[R:.*]] = torsh.reshape %[[P]]
// CHECK-NEXT:    func.return %[[R]]
// STRICT-LABEL: func.func @main
// STRICT-NEXT:    torsh.max_pool %a {{.*}} -> tensor<1x4x4x4xui8>
func.func @main(%a: tensor<1x4x8x8xui8>) -> tensor<1x64xui8> {
  %s = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %z = torsh.constant {value = #torsh.literal<"ui8", [], [3]>} : () -> tensor<ui8>
  %x = torsh.dequantize_linear %a, %s, %z : (tensor<1x4x8x8xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x4x8x8xf32>
  %p = torsh.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>} : (tensor<1x4x8x8xf32>) -> tensor<1x4x4x4xf32>
  %r = torsh.reshape %p {target = #torsh.dims<[1, 64]>} : (tensor<1x4x4x4xf32>) -> tensor<1x64xf32>
  %q = torsh.quantize_linear %r, %s, %z {to = ui8} : (tensor<1x64xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x64xui8>
  func.return %q : tensor<1x64xui8>
}

// -----

// Does not fire: the mean of a window is not among its integers.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.avg_pool {{.*}} -> tensor<1x4x4x4xf32>
func.func @main(%a: tensor<1x4x8x8xui8>) -> tensor<1x4x4x4xui8> {
  %s = torsh.constant {value = #torsh.literal<"f32", [], [0.5]>} : () -> tensor<f32>
  %z = torsh.constant {value = #torsh.literal<"ui8", [], [3]>} : () -> tensor<ui8>
  %x = torsh.dequantize_linear %a, %s, %z : (tensor<1x4x8x8xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x4x8x8xf32>
  %p = torsh.avg_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>} : (tensor<1x4x8x8xf32>) -> tensor<1x4x4x4xf32>
  %q = torsh.quantize_linear %p, %s, %z {to = ui8} : (tensor<1x4x4x4xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x4x4x4xui8>
  func.return %q : tensor<1x4x4x4xui8>
}

// -----

// Fires everywhere: 8-bit weights of a product are dequantised, so that they stay bytes.
// CHECK-LABEL: func.func @bytes
// CHECK:         %[[W:.*]] = torsh.dequantize_linear %q
// CHECK:         torsh.matmul %x, %[[W]]
// STRICT-LABEL: func.func @bytes
// STRICT:        torsh.dequantize_linear %q
func.func @bytes(%x: tensor<2x64xf32>) -> tensor<2x16xf32> {
  %q = torsh.weight {id = "q", type = tensor<64x16xi8>} : () -> tensor<64x16xi8>
  %w = torsh.cast %q {to = f32} : (tensor<64x16xi8>) -> tensor<64x16xf32>
  %y = torsh.matmul %x, %w : (tensor<2x64xf32>, tensor<64x16xf32>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// -----

// Does not fire: another op than the product uses the floats.
// CHECK-LABEL: func.func @floats
// CHECK-NOT:     torsh.dequantize_linear
// STRICT-LABEL: func.func @floats
// STRICT-NOT:    torsh.dequantize_linear
func.func @floats(%x: tensor<2x64xf32>) -> (tensor<2x16xf32>, tensor<64x16xf32>) {
  %q = torsh.weight {id = "q", type = tensor<64x16xi8>} : () -> tensor<64x16xi8>
  %w = torsh.cast %q {to = f32} : (tensor<64x16xi8>) -> tensor<64x16xf32>
  %y = torsh.matmul %x, %w : (tensor<2x64xf32>, tensor<64x16xf32>) -> tensor<2x16xf32>
  %r = torsh.relu %w : (tensor<64x16xf32>) -> tensor<64x16xf32>
  func.return %y, %r : tensor<2x16xf32>, tensor<64x16xf32>
}
