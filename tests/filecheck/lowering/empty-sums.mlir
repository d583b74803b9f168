// RUN: torsh-opt %s --emit kern --split-input-file | filecheck %s

// Fires: where k is 0 one launch fills the result, with what the ops make of an empty sum.
// CHECK-LABEL: sym_name = "exp_
// CHECK-LABEL: sym_name = "broadcast_to_
// CHECK-NOT:     %in
// CHECK:         kern.store
// CHECK-LABEL: sym_name = "torsh_run"
// CHECK:         %[[EMPTY:.*]] = kern.compare %{{.*}}, %{{.*}} {kind = "eq"}
// CHECK:         kern.if %[[EMPTY]] {
// CHECK-NEXT:      kern.launch %host, {{.*}}kernel = @broadcast_to_
// CHECK-NEXT:      kern.yield
// CHECK:         } {
// CHECK:           kern.launch
func.func @main(%a: tensor<4x?xf32, #torsh.dims<[4, k]>>) -> tensor<4xf32> {
  %s = torsh.sum %a {axes = array<i64: 1>} : (tensor<4x?xf32, #torsh.dims<[4, k]>>) -> tensor<4xf32>
  %y = torsh.exp %s : (tensor<4xf32>) -> tensor<4xf32>
  func.return %y : tensor<4xf32>
}

// -----

// Does not fire: the symbol is 1 at least.
// CHECK-LABEL: sym_name = "torsh_run"
// CHECK-NOT:     broadcast_to
// CHECK:         kern.return
func.func @main(%a: tensor<4x?xf32, #torsh.dims<[4, k]>>) -> tensor<4xf32>
    attributes {torsh.symbols = {k = array<i64: 1>}} {
  %s = torsh.sum %a {axes = array<i64: 1>} : (tensor<4x?xf32, #torsh.dims<[4, k]>>) -> tensor<4xf32>
  %y = torsh.exp %s : (tensor<4xf32>) -> tensor<4xf32>
  func.return %y : tensor<4xf32>
}

// -----

// Does not fire: the result depends on an input.
// CHECK-LABEL: sym_name = "torsh_run"
// CHECK-NOT:     broadcast_to
// CHECK:         kern.return
func.func @main(%a: tensor<4x?xf32, #torsh.dims<[4, k]>>, %b: tensor<4xf32>) -> tensor<4xf32> {
  %s = torsh.sum %a {axes = array<i64: 1>} : (tensor<4x?xf32, #torsh.dims<[4, k]>>) -> tensor<4xf32>
  %y = torsh.add %s, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return %y : tensor<4xf32>
}
