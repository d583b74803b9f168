// RUN: torsh-opt %s -p expand-calls --verify-diagnostics | filecheck %s

// An operation that nobody knows is refused.
// CHECK: nobody knows the operations custom_torsh_op
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = torsh.call %x {operation = "custom_torsh_op", foreign = true} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}
