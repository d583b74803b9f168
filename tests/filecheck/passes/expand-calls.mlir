// RUN: torsh-opt %s -p expand-calls --split-input-file | filecheck %s

// Fires: names become ops of the dialect.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[A:.*]] = torsh.relu %x
// CHECK-NEXT:    %[[B:.*]] = torsh.softmax %[[A]] {axis = -1 : i64}
// CHECK-NEXT:    func.return %[[B]]
// CHECK-NOT:     torsh.call
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %a = torsh.call %x {operation = "relu"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %b = torsh.call %a {operation = "softmax"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %b : tensor<2x3xf32>
}

// -----

// Does not fire: there is no call.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.relu %x
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %a = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
  func.return %a : tensor<3xf32>
}
