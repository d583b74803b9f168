// RUN: torsh-opt %s -p outline-native --split-input-file | filecheck %s

// Fires: tensor code between sequence ops becomes a function; the constant goes with it.
// CHECK-LABEL: func.func @main
// CHECK:         %[[X:.*]] = torsh.sequence_at %s, %i
// CHECK-NEXT:    %[[Z:.*]] = func.call @native_0(%[[X]]) : (tensor<2xf32>) -> tensor<2xf32>
// CHECK-NEXT:    %[[R:.*]] = torsh.sequence_insert %s, %[[Z]]
// CHECK-NEXT:    func.return %[[R]]
// CHECK-LABEL: func.func @native_0(%{{.*}}: tensor<2xf32>) -> tensor<2xf32>
// CHECK-NEXT:    torsh.constant
// CHECK-NEXT:    torsh.relu
// CHECK-NEXT:    torsh.mul
// CHECK-NEXT:    func.return
func.func @main(%s: !torsh.seq<tensor<2xf32>>, %i: tensor<i64>) -> !torsh.seq<tensor<2xf32>> {
  %c = torsh.constant {value = #torsh.literal<"f32", [], [2.0]>} : () -> tensor<f32>
  %x = torsh.sequence_at %s, %i : (!torsh.seq<tensor<2xf32>>, tensor<i64>) -> tensor<2xf32>
  %y = torsh.relu %x : (tensor<2xf32>) -> tensor<2xf32>
  %z = torsh.mul %y, %c : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %r = torsh.sequence_insert %s, %z : (!torsh.seq<tensor<2xf32>>, tensor<2xf32>) -> !torsh.seq<tensor<2xf32>>
  func.return %r : !torsh.seq<tensor<2xf32>>
}

// -----

// Does not fire: all values are tensors of numbers.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.relu
// CHECK-NEXT:    torsh.exp
// CHECK-NOT:   func.func @native
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %y = torsh.relu %x : (tensor<2xf32>) -> tensor<2xf32>
  %z = torsh.exp %y : (tensor<2xf32>) -> tensor<2xf32>
  func.return %z : tensor<2xf32>
}
