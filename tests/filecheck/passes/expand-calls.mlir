// RUN: torsh-opt %s -p expand-calls --split-input-file | filecheck %s

// Fires: operations become the ops that they mean; a condition becomes a scalar.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.softmax %x {axis = -1 : i64}
// CHECK-NEXT:    torsh.weight {id = "fc.weight", type = tensor<4x3xf32>}
// CHECK-NEXT:    torsh.weight {id = "fc.bias", type = tensor<4xf32>}
// CHECK-NEXT:    torsh.linear
// CHECK-NEXT:    torsh.reshape %c {target = #torsh.dims<[]>} : (tensor<1xi1>) -> tensor<i1>
// CHECK-NEXT:    torsh.cond
// CHECK-NOT:     torsh.call
func.func @main(%x: tensor<2x3xf32>, %c: tensor<1xi1>) -> tensor<2x4xf32> {
  %0 = torsh.call %x {operation = "softmax"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = torsh.call %0 {operation = "linear", torsh.name = "fc", parameters = {weight = tensor<4x3xf32>, bias = tensor<4xf32>}} : (tensor<2x3xf32>) -> tensor<2x4xf32>
  %2 = torsh.cond %c {
    %3 = torsh.call %1 {operation = "square"} : (tensor<2x4xf32>) -> tensor<2x4xf32>
    torsh.yield %3 : (tensor<2x4xf32>) -> ()
  } {
    torsh.yield %1 : (tensor<2x4xf32>) -> ()
  } : (tensor<1xi1>) -> tensor<2x4xf32>
  func.return %2 : tensor<2x4xf32>
}

// -----

// Does not fire: there is no call.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.relu %x
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = torsh.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}
