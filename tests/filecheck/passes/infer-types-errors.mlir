// RUN: torsh-opt %s -p infer-types --verify-diagnostics | filecheck %s

// What does not fit is reported as a whole.
// CHECK: 2 op(s) do not fit
// CHECK: matmul
// CHECK: add
func.func @main(%x: tensor<2x3xf32>, %n: tensor<3xi64>) -> tensor<*x!torsh.any> {
  %0 = torsh.call %x, %x {operation = "matmul", torsh.name = "matmul"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<*x!torsh.any>
  %1 = torsh.call %x, %n {operation = "add", torsh.name = "add"} : (tensor<2x3xf32>, tensor<3xi64>) -> tensor<*x!torsh.any>
  func.return %1 : tensor<*x!torsh.any>
}
