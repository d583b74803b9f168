// RUN: torsh-opt %s -p infer-types --split-input-file | filecheck %s

// Fires: types follow from the inputs, in branches too.
// CHECK-LABEL: func.func @main
// CHECK-SAME:    -> tensor<2xf32>
// CHECK:         torsh.call %x {operation = "mean", options = {axis = 1 : i64}} : (tensor<2x3xf32>) -> tensor<2xf32>
// CHECK:         torsh.cond %c
// CHECK:           torsh.call %0 {operation = "square"} : (tensor<2xf32>) -> tensor<2xf32>
// CHECK:         } : (tensor<i1>) -> tensor<2xf32>
func.func @main(%x: tensor<2x3xf32>, %c: tensor<i1>) -> tensor<*x!torsh.any> {
  %0 = torsh.call %x {operation = "mean", options = {axis = 1 : i64}} : (tensor<2x3xf32>) -> tensor<*x!torsh.any>
  %1 = torsh.cond %c {
    %2 = torsh.call %0 {operation = "square"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
    torsh.yield %2 : (tensor<*x!torsh.any>) -> ()
  } {
    torsh.yield %0 : (tensor<*x!torsh.any>) -> ()
  } : (tensor<i1>) -> tensor<*x!torsh.any>
  func.return %1 : tensor<*x!torsh.any>
}

// -----

// Does not fire: nothing is known of the input.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.call %x {operation = "relu"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
func.func @main(%x: tensor<*x!torsh.any>) -> tensor<*x!torsh.any> {
  %0 = torsh.call %x {operation = "relu"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
  func.return %0 : tensor<*x!torsh.any>
}
