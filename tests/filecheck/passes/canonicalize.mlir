// RUN: torsh-opt %s -p canonicalize --split-input-file | filecheck %s

// Fires: an unused op goes, a cast to the same type goes, equal ops become one.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %a = torsh.relu %x
// CHECK-NEXT:    %r = torsh.add %a, %a
// CHECK-NEXT:    func.return %r
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %unused = torsh.exp %x : (tensor<3xf32>) -> tensor<3xf32>
  %a = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
  %b = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
  %c = torsh.cast %b {to = f32} : (tensor<3xf32>) -> tensor<3xf32>
  %r = torsh.add %a, %c : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  func.return %r : tensor<3xf32>
}

// -----

// Does not fire: a cast to another type stays, and so does what is used.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %a = torsh.relu %x
// CHECK-NEXT:    %c = torsh.cast %a {to = f64}
// CHECK-NEXT:    func.return %c
func.func @main(%x: tensor<3xf32>) -> tensor<3xf64> {
  %a = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
  %c = torsh.cast %a {to = f64} : (tensor<3xf32>) -> tensor<3xf64>
  func.return %c : tensor<3xf64>
}

// -----

// Fires: the extents of a static shape are constants, and what is computed of them.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.constant {value = #torsh.literal<"i64", [], [3]>}
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<2x3xf32>) -> tensor<i64> {
  %s = torsh.shape_of %x : (tensor<2x3xf32>) -> tensor<2xi64>
  %i = torsh.constant {value = #torsh.literal<"i64", [], [1]>} : () -> tensor<i64>
  %r = torsh.gather %s, %i {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  func.return %r : tensor<i64>
}

// -----

// Does not fire: an extent is not known before the run.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.shape_of
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<?x3xf32, #torsh.dims<[n, 3]>>) -> tensor<2xi64> {
  %s = torsh.shape_of %x : (tensor<?x3xf32, #torsh.dims<[n, 3]>>) -> tensor<2xi64>
  func.return %s : tensor<2xi64>
}

// -----

// Fires: one index that is known, from the end, is a slice.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[S:.*]] = torsh.slice %x {sizes = #torsh.dims<[1, 3]>, starts = #torsh.dims<[4, 0]>
// CHECK-NEXT:    %[[R:.*]] = torsh.reshape %[[S]] {target = #torsh.dims<[3]>}
// CHECK-NEXT:    func.return %[[R]]
func.func @main(%x: tensor<5x3xf32>) -> tensor<3xf32> {
  %i = torsh.constant {value = #torsh.literal<"i64", [], [-1]>} : () -> tensor<i64>
  %y = torsh.gather %x, %i {axis = 0 : i64} : (tensor<5x3xf32>, tensor<i64>) -> tensor<3xf32>
  func.return %y : tensor<3xf32>
}

// -----

// Does not fire: whether the index is in range is known at run time only.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.gather
func.func @main(%x: tensor<?x3xf32, #torsh.dims<[n, 3]>>) -> tensor<3xf32> {
  %i = torsh.constant {value = #torsh.literal<"i64", [], [4]>} : () -> tensor<i64>
  %y = torsh.gather %x, %i {axis = 0 : i64} : (tensor<?x3xf32, #torsh.dims<[n, 3]>>, tensor<i64>) -> tensor<3xf32>
  func.return %y : tensor<3xf32>
}

// -----

// Fires: positions are made with the axes of extent 1 that a reshape would give them.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %[[R:.*]] = torsh.iota {axis = 1 : i64, element = i64, target = #torsh.dims<[1, n, 1]>}
// CHECK-NEXT:    func.return %[[R]]
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<1x?x1xi64, #torsh.dims<[1, n, 1]>> {
  %i = torsh.iota {axis = 0 : i64, element = i64, target = #torsh.dims<[n]>} : () -> tensor<?xi64, #torsh.dims<[n]>>
  %y = torsh.reshape %i {target = #torsh.dims<[1, n, 1]>} : (tensor<?xi64, #torsh.dims<[n]>>) -> tensor<1x?x1xi64, #torsh.dims<[1, n, 1]>>
  func.return %y : tensor<1x?x1xi64, #torsh.dims<[1, n, 1]>>
}

// -----

// Does not fire: positions in two axes are other numbers.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.reshape
func.func @main(%x: tensor<?xf32, #torsh.dims<["2*n"]>>) -> tensor<?x2xi64, #torsh.dims<[n, 2]>> {
  %i = torsh.iota {axis = 0 : i64, element = i64, target = #torsh.dims<["2*n"]>} : () -> tensor<?xi64, #torsh.dims<["2*n"]>>
  %y = torsh.reshape %i {target = #torsh.dims<[n, 2]>} : (tensor<?xi64, #torsh.dims<["2*n"]>>) -> tensor<?x2xi64, #torsh.dims<[n, 2]>>
  func.return %y : tensor<?x2xi64, #torsh.dims<[n, 2]>>
}
