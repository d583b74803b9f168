// RUN: torsh-opt %s -p relu-to-gelu --split-input-file | filecheck %s

// Fires on the op and on the call by name.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.gelu %x {approximate = "none", torsh.name = "node_0"} : (tensor<3xf32>) -> tensor<3xf32>
// CHECK-NEXT:    torsh.call %y {operation = "gelu"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
func.func @main(%x: tensor<3xf32>, %y: tensor<*x!torsh.any>) -> (tensor<3xf32>, tensor<*x!torsh.any>) {
  %0 = torsh.relu %x {torsh.name = "node_0"} : (tensor<3xf32>) -> tensor<3xf32>
  %1 = torsh.call %y {operation = "relu"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
  func.return %0, %1 : tensor<3xf32>, tensor<*x!torsh.any>
}

// -----

// Does not fire: relu6 is another op.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.relu6 %x
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = torsh.relu6 %x : (tensor<3xf32>) -> tensor<3xf32>
  func.return %0 : tensor<3xf32>
}
