// RUN: torsh-opt %s -p choose-layout,canonicalize --split-input-file | filecheck %s

// Fires: the convolution and the pool become channels-last, and relu between them needs no transpose.
// CHECK-LABEL: func.func @main
// CHECK:         %[[X:.*]] = torsh.transpose %x {perm = array<i64: 0, 2, 3, 1>}
// CHECK-NEXT:    %[[C:.*]] = torsh.conv %[[X]], %w {data_layout = "NHWC"
// CHECK-NEXT:    %[[A:.*]] = torsh.relu %[[C]]
// CHECK-NEXT:    %[[P:.*]] = torsh.max_pool %[[A]] {data_layout = "NHWC"
// CHECK-NEXT:    torsh.transpose %[[P]] {perm = array<i64: 0, 3, 1, 2>}
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<1x3x8x8xf32>) -> tensor<1x4x4x4xf32> {
  %w = torsh.weight {id = "w", type = tensor<4x3x3x3xf32>} : () -> tensor<4x3x3x3xf32>
  %c = torsh.conv %x, %w {pads = array<i64: 1, 1, 1, 1>} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x8x8xf32>
  %a = torsh.relu %c : (tensor<1x4x8x8xf32>) -> tensor<1x4x8x8xf32>
  %p = torsh.max_pool %a {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>} : (tensor<1x4x8x8xf32>) -> tensor<1x4x4x4xf32>
  func.return %p : tensor<1x4x4x4xf32>
}

// -----

// Does not fire: the filters are an input, no template computes that.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.conv %x, %w :
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<1x3x8x8xf32>, %w: tensor<4x3x3x3xf32>) -> tensor<1x4x6x6xf32> {
  %c = torsh.conv %x, %w : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x6x6xf32>
  func.return %c : tensor<1x4x6x6xf32>
}

// -----

// Does not fire: integers have no template.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.conv %x, %w :
func.func @main(%x: tensor<1x3x8x8xi32>) -> tensor<1x4x6x6xi32> {
  %w = torsh.weight {id = "w", type = tensor<4x3x3x3xi32>} : () -> tensor<4x3x3x3xi32>
  %c = torsh.conv %x, %w : (tensor<1x3x8x8xi32>, tensor<4x3x3x3xi32>) -> tensor<1x4x6x6xi32>
  func.return %c : tensor<1x4x6x6xi32>
}
