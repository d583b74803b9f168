// RUN: torsh-opt %s -p expand-composites --split-input-file | filecheck %s
// RUN: torsh-opt %s -p 'expand-composites{keep="torsh.softmax"}' --split-input-file | filecheck %s --check-prefix=KEEP

// Fires, unless the op is kept by name.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.softmax
// CHECK:         torsh.max %x
// CHECK-NEXT:    torsh.sub %x
// CHECK-NEXT:    torsh.exp
// CHECK-NEXT:    torsh.sum
// CHECK-NEXT:    torsh.div
// KEEP-LABEL: func.func @main
// KEEP-NEXT:     torsh.softmax %x
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %r = torsh.softmax %x {axis = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %r : tensor<2x3xf32>
}

// -----

// Does not fire: relu is no composite.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.relu %x
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %r = torsh.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %r : tensor<2x3xf32>
}
