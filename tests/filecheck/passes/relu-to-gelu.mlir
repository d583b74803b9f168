// RUN: torsh-opt %s -p relu-to-gelu --split-input-file | filecheck %s

// Fires: on the op, and on a call by name.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[A:.*]] = torsh.gelu %x {approximate = "none"}
// CHECK-NEXT:    torsh.call %[[A]] {operation = "gelu"}
// CHECK-NOT:     relu
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %a = torsh.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %b = torsh.call %a {operation = "relu"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %b : tensor<2x3xf32>
}

// -----

// Does not fire: relu6 is another function.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.relu6 %x
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %a = torsh.relu6 %x : (tensor<3xf32>) -> tensor<3xf32>
  func.return %a : tensor<3xf32>
}
