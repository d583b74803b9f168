// RUN: torsh-opt %s -p infer-types --split-input-file | filecheck %s

// Fires: types follow the data from call to call.
// CHECK-LABEL: func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32>
// CHECK-NEXT:    %a = torsh.call %x {operation = "relu"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
// CHECK-NEXT:    %b = torsh.call %a {operation = "softmax"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @main(%x: tensor<2x3xf32>) -> tensor<*x!torsh.any> {
  %a = torsh.call %x {operation = "relu"} : (tensor<2x3xf32>) -> tensor<*x!torsh.any>
  %b = torsh.call %a {operation = "softmax"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
  func.return %b : tensor<*x!torsh.any>
}

// -----

// Does not fire: everything has its type.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %a = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %a = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
  func.return %a : tensor<3xf32>
}
