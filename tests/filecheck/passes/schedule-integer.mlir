// RUN: torsh-opt %s -p schedule-integer,canonicalize --split-input-file | filecheck %s
// RUN: torsh-opt %s -p schedule-integer,canonicalize --split-input-file --target x86-64-v4-vnni | filecheck %s --check-prefix=VNNI

// Fires: i8 weights in words of four steps; the zero point becomes a difference of column sums.
// VNNI takes ui8: i8 activations are shifted by 128.
// CHECK-LABEL: func.func @main
// CHECK:         %[[P:.*]] = torsh.transpose {{.*}} -> tensor<1x1x1x16x16x4xi8>
// CHECK:         %[[S:.*]] = torsh.sum {{.*}} -> tensor<16xi32>
// CHECK:         %[[C:.*]] = torsh.mul %[[S]], {{.*}} -> tensor<16xi32>
// CHECK-NEXT:    %[[T:.*]] = torsh.packed_linear_integer %a, %[[P]] {columns = 16 : i64}
// CHECK-NEXT:    torsh.sub %[[T]], %[[C]] : {{.*}} -> tensor<2x16xi32>
// VNNI-LABEL: func.func @main
// VNNI:         %[[A:.*]] = torsh.bitwise_xor {{.*}} -> tensor<2x64xui8>
// VNNI:         %[[P:.*]] = torsh.transpose {{.*}} -> tensor<1x1x1x16x32x4xi8>
// VNNI:         torsh.packed_linear_integer %[[A]], %[[P]]
func.func @main(%a: tensor<2x64xi8>) -> tensor<2x16xi32> {
  %b = torsh.weight {id = "b", type = tensor<64x16xi8>} : () -> tensor<64x16xi8>
  %z = torsh.constant {value = #torsh.literal<"i8", [], [5]>} : () -> tensor<i8>
  %y = torsh.matmul_integer %a, %b, %z {operandSegmentSizes = array<i32: 1, 1, 1, 0>} : (tensor<2x64xi8>, tensor<64x16xi8>, tensor<i8>) -> tensor<2x16xi32>
  func.return %y : tensor<2x16xi32>
}

// -----

// Fires: few channels are padded in memory, so that a row of the kernel is one run of 9 bytes.
// CHECK-LABEL: func.func @main
// CHECK:         %[[X:.*]] = torsh.pad {{.*}} -> tensor<1x8x10x3xui8>
// CHECK:         torsh.packed_conv_integer %[[X]], {{.*}} outside = 7 : i64, {{.*}}tensor<1x1x3x3x16x4xi8>
func.func @main(%x: tensor<1x3x8x8xui8>) -> tensor<1x4x8x8xi32> {
  %w = torsh.weight {id = "w", type = tensor<4x3x3x3xi8>} : () -> tensor<4x3x3x3xi8>
  %z = torsh.constant {value = #torsh.literal<"ui8", [], [7]>} : () -> tensor<ui8>
  %y = torsh.conv_integer %x, %w, %z {pads = array<i64: 1, 1, 1, 1>, operandSegmentSizes = array<i32: 1, 1, 1, 0>} : (tensor<1x3x8x8xui8>, tensor<4x3x3x3xi8>, tensor<ui8>) -> tensor<1x4x8x8xi32>
  func.return %y : tensor<1x4x8x8xi32>
}

// -----

// Fires: a convolution of single pixels is a product of rows of channels.
// CHECK-LABEL: func.func @main
// CHECK:         %[[X:.*]] = torsh.transpose %x {{.*}} -> tensor<1x8x8x16xui8>
// CHECK:         torsh.packed_linear_integer %[[X]], {{.*}} -> tensor<1x8x8x4xi32>
// CHECK-NOT:     torsh.packed_conv_integer
func.func @main(%x: tensor<1x16x8x8xui8>) -> tensor<1x4x8x8xi32> {
  %w = torsh.weight {id = "w", type = tensor<4x16x1x1xi8>} : () -> tensor<4x16x1x1xi8>
  %y = torsh.conv_integer %x, %w {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<1x16x8x8xui8>, tensor<4x16x1x1xi8>) -> tensor<1x4x8x8xi32>
  func.return %y : tensor<1x4x8x8xi32>
}

// -----

// Fires: a depthwise convolution is exact in f32.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.conv {{.*}} -> tensor<1x4x8x8xf32>
// CHECK-NEXT:    torsh.cast {{.*}} -> tensor<1x4x8x8xi32>
func.func @main(%x: tensor<1x4x8x8xui8>) -> tensor<1x4x8x8xi32> {
  %w = torsh.weight {id = "w", type = tensor<4x1x3x3xi8>} : () -> tensor<4x1x3x3xi8>
  %y = torsh.conv_integer %x, %w {groups = 4 : i64, pads = array<i64: 1, 1, 1, 1>, operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<1x4x8x8xui8>, tensor<4x1x3x3xi8>) -> tensor<1x4x8x8xi32>
  func.return %y : tensor<1x4x8x8xi32>
}

// -----

// Fires: both factors are inputs, which a template packs as it runs.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[T:.*]] = torsh.matmul %a, %b {accumulate = i32} : (tensor<2x64xi8>, tensor<64x16xi8>) -> tensor<2x16xi32>
// CHECK-NEXT:    func.return %[[T]]
func.func @main(%a: tensor<2x64xi8>, %b: tensor<64x16xi8>) -> tensor<2x16xi32> {
  %y = torsh.matmul_integer %a, %b {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<2x64xi8>, tensor<64x16xi8>) -> tensor<2x16xi32>
  func.return %y : tensor<2x16xi32>
}

// -----

// Fires: the number of steps is known when it runs; sums are modulo 2^32, as the op says.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.matmul %a, %b {accumulate = i32}
// CHECK-NEXT:    func.return
func.func @main(%a: tensor<2x?xi8, #torsh.dims<[2, k]>>, %b: tensor<?x16xi8, #torsh.dims<[k, 16]>>) -> tensor<2x16xi32> {
  %y = torsh.matmul_integer %a, %b {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<2x?xi8, #torsh.dims<[2, k]>>, tensor<?x16xi8, #torsh.dims<[k, 16]>>) -> tensor<2x16xi32>
  func.return %y : tensor<2x16xi32>
}

// -----

// Does not fire: sums of 70000 products may exceed 32 bits.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.matmul_integer %a
func.func @main(%a: tensor<2x70000xi8>) -> tensor<2x16xi32> {
  %b = torsh.weight {id = "b", type = tensor<70000x16xi8>} : () -> tensor<70000x16xi8>
  %y = torsh.matmul_integer %a, %b {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<2x70000xi8>, tensor<70000x16xi8>) -> tensor<2x16xi32>
  func.return %y : tensor<2x16xi32>
}

// -----

// Fires: weights of 4 bits are read as they are, two steps of the sum in a byte.
// CHECK-LABEL: func.func @main
// CHECK:         %[[W:.*]] = torsh.bitwise_or {{.*}} -> tensor<2x32x16xi8>
// CHECK:         torsh.packed_linear_blocks %x, %[[W]], {{.*}} {bits = 4 : i64, block = 32 : i64, columns = 21 : i64}
func.func @main(%x: tensor<1x64xf32>) -> tensor<1x21xf32> {
  %q = torsh.weight {id = "q", type = tensor<21x64xi4>} : () -> tensor<21x64xi4>
  %s = torsh.weight {id = "s", type = tensor<21x2xf32>} : () -> tensor<21x2xf32>
  %w = torsh.dequantize_linear %q, %s {axis = 1 : i64, block_size = 32 : i64} : (tensor<21x64xi4>, tensor<21x2xf32>) -> tensor<21x64xf32>
  %y = torsh.linear %x, %w : (tensor<1x64xf32>, tensor<21x64xf32>) -> tensor<1x21xf32>
  func.return %y : tensor<1x21xf32>
}
