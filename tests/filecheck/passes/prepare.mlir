// RUN: torsh-opt %s -p prepare --split-input-file | filecheck %s

// Fires: what depends on the weight alone moves to @prepare.
// CHECK-LABEL: func.func @prepare(%0: tensor<2x3xf32>) -> tensor<3x2xf32>
// CHECK-SAME:    arg_names = ["w"], result_names = ["prepared.0"]
// CHECK-NEXT:    %[[T:.*]] = torsh.transpose %0
// CHECK-NEXT:    func.return %[[T]]
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[W:.*]] = torsh.weight {id = "prepared.0"
// CHECK-NOT:     torsh.transpose
// CHECK:         torsh.mul %x, %[[W]]
func.func @main(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = torsh.weight {id = "w", type = tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %t = torsh.transpose %w {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %r = torsh.mul %x, %t : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
  func.return %r : tensor<3x2xf32>
}

// -----

// Does not fire: the weight is used as it is.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %w = torsh.weight {id = "w"
// CHECK-NEXT:    torsh.mul %x, %w
// CHECK-NOT:   @prepare
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %w = torsh.weight {id = "w", type = tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %r = torsh.mul %x, %w : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %r : tensor<2x3xf32>
}
