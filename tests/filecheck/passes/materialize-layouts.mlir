// RUN: torsh-opt %s -p materialize-layouts --split-input-file | filecheck %s
// RUN: torsh-opt %s -p materialize-layouts,choose-layout,canonicalize --split-input-file | filecheck %s --check-prefix=CHOSEN

// Fires: argument and result are as they lie in memory, the value between them is row-major.
// CHECK-LABEL: func.func @main(%x: tensor<1x8x8x3xf32>) -> tensor<1x8x8x4xf32>
// CHECK-SAME:    torsh.arg_layouts = [array<i64: 0, 2, 3, 1>], torsh.result_layouts = [array<i64: 0, 2, 3, 1>]
// CHECK-NEXT:    %[[X:.*]] = torsh.transpose %x {perm = array<i64: 0, 3, 1, 2>} : (tensor<1x8x8x3xf32>) -> tensor<1x3x8x8xf32>
// CHECK:         %[[C:.*]] = torsh.conv %[[X]]
// CHECK-NEXT:    %[[R:.*]] = torsh.relu %[[C]]
// CHECK-NEXT:    %[[Y:.*]] = torsh.transpose %[[R]] {perm = array<i64: 0, 2, 3, 1>}
// CHECK-NEXT:    func.return %[[Y]] : tensor<1x8x8x4xf32>

// The convolution wants this order: `choose-layout` leaves no transpose.
// CHOSEN-LABEL: func.func @main(%x: tensor<1x8x8x3xf32>)
// CHOSEN-NEXT:    torsh.weight
// CHOSEN-NEXT:    %[[C:.*]] = torsh.conv %x, %w {data_layout = "NHWC"
// CHOSEN-NEXT:    %[[R:.*]] = torsh.relu %[[C]]
// CHOSEN-NEXT:    func.return %[[R]]
func.func @main(%x: tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>) -> tensor<1x4x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>> {
  %w = torsh.weight {id = "w", type = tensor<4x3x3x3xf32>} : () -> tensor<4x3x3x3xf32>
  %c = torsh.conv %x, %w {pads = array<i64: 1, 1, 1, 1>} : (tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>, tensor<4x3x3x3xf32>) -> tensor<1x4x8x8xf32>
  %r = torsh.relu %c : (tensor<1x4x8x8xf32>) -> tensor<1x4x8x8xf32>
  %y = torsh.to_layout %r {layout = array<i64: 0, 2, 3, 1>} : (tensor<1x4x8x8xf32>) -> tensor<1x4x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>
  func.return %y : tensor<1x4x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>
}

// -----

// Fires: an argument that is returned as it lies goes there and back; symbols and device stay.
// CHECK-LABEL: func.func @main(%x: tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cuda:0">>, %y: tensor<3xf32>)
// CHECK-SAME:    -> (tensor<3xf32>, tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cuda:0">>)
// CHECK-SAME:    torsh.arg_layouts = [array<i64: 1, 0>, array<i64>], torsh.result_layouts = [array<i64>, array<i64: 1, 0>]
// CHECK-NEXT:    torsh.transpose %x {perm = array<i64: 1, 0>}
// CHECK-NEXT:    torsh.transpose
// CHECK-NEXT:    func.return %y,
func.func @main(%x: tensor<2x?xf32, #torsh.tensor<dims = [2, n], layout = [1, 0], device = "cuda:0">>, %y: tensor<3xf32>) -> (tensor<3xf32>, tensor<2x?xf32, #torsh.tensor<dims = [2, n], layout = [1, 0], device = "cuda:0">>) {
  func.return %y, %x : tensor<3xf32>, tensor<2x?xf32, #torsh.tensor<dims = [2, n], layout = [1, 0], device = "cuda:0">>
}

// -----

// Fires: a layout inside a function, and inside a region, is nobody's to see.
// CHECK-LABEL: func.func @main(%x: tensor<2x3xf32>, %n: tensor<i64>, %t: tensor<i1>)
// CHECK-NEXT:    torsh.loop %n, %t, %x {scans = 0 : i64} {
// CHECK-NEXT:    ^bb0(%{{.*}}: tensor<i64>, %[[V:.*]]: tensor<2x3xf32>):
// CHECK-NEXT:      %[[R:.*]] = torsh.relu %[[V]]
// CHECK-NEXT:      torsh.yield %t, %[[R]]
// CHECK-NOT:   to_layout
func.func @main(%x: tensor<2x3xf32>, %n: tensor<i64>, %t: tensor<i1>) -> tensor<2x3xf32> {
  %a = torsh.to_layout %x {layout = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>
  %r = torsh.loop %n, %t, %a {scans = 0 : i64} {
  ^bb0(%i: tensor<i64>, %v: tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>):
    %b = torsh.relu %v : (tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32>
    %c = torsh.to_layout %b {layout = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>
    torsh.yield %t, %c : (tensor<i1>, tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> ()
  } : (tensor<i64>, tensor<i1>, tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32>
  func.return %r : tensor<2x3xf32>
}

// -----

// Does not fire: everything is row-major.
// CHECK-LABEL: func.func @main(%x: tensor<2x3xf32, #torsh.tensor<device = "cpu">>) -> tensor<3x2xf32, #torsh.tensor<device = "cpu">> {
// CHECK-NEXT:    torsh.transpose
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<2x3xf32, #torsh.tensor<device = "cpu">>) -> tensor<3x2xf32, #torsh.tensor<device = "cpu">> {
  %y = torsh.transpose %x {perm = array<i64: 1, 0>} : (tensor<2x3xf32, #torsh.tensor<device = "cpu">>) -> tensor<3x2xf32, #torsh.tensor<device = "cpu">>
  func.return %y : tensor<3x2xf32, #torsh.tensor<device = "cpu">>
}
