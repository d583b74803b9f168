// RUN: torsh-opt %s -p fuse --split-input-file | filecheck %s

// Fires: a product takes the element-wise ops after it as its epilogue.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %r = torsh.fused %x, %w, %z {
// CHECK-NEXT:    ^bb0(%[[X:.*]]: tensor<2x4xf32>, %[[W:.*]]: tensor<3x4xf32>, %[[Z:.*]]: tensor<2x3xf32>):
// CHECK-NEXT:      %[[Y:.*]] = torsh.linear %[[X]], %[[W]]
// CHECK-NEXT:      %[[A:.*]] = torsh.add %[[Y]], %[[Z]]
// CHECK-NEXT:      %[[R:.*]] = torsh.relu %[[A]]
// CHECK-NEXT:      torsh.yield %[[R]]
// CHECK-NEXT:    }
// CHECK-NEXT:    func.return %r
func.func @main(%x: tensor<2x4xf32>, %w: tensor<3x4xf32>, %z: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %y = torsh.linear %x, %w : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  %a = torsh.add %y, %z : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r = torsh.relu %a : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %r : tensor<2x3xf32>
}

// -----

// Two regions: a value that another region uses too stays a result of its own region.
// CHECK-LABEL: func.func @main
// CHECK:         %e = torsh.fused %x
// CHECK:           torsh.exp
// CHECK-NOT:       torsh.sum
// CHECK:           torsh.yield
// CHECK:         torsh.fused %e
func.func @main(%x: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<2xf32>) {
  %e = torsh.exp %x : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %s = torsh.sum %e {axes = array<i64: 1>} : (tensor<2x4xf32>) -> tensor<2xf32>
  func.return %e, %s : tensor<2x4xf32>, tensor<2xf32>
}

// -----

// A reduction of any axis takes the element-wise ops that finish its elements.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.fused %x, %z
// CHECK:           torsh.cast
// CHECK:           torsh.sum
// CHECK:           torsh.mul
// CHECK:           torsh.add
// CHECK:           torsh.yield
// CHECK-NOT:     torsh.fused
func.func @main(%x: tensor<4x3xi8>, %z: tensor<3xi32>) -> tensor<3xi32> {
  %c = torsh.cast %x {to = i32} : (tensor<4x3xi8>) -> tensor<4x3xi32>
  %s = torsh.sum %c {axes = array<i64: 0>} : (tensor<4x3xi32>) -> tensor<3xi32>
  %m = torsh.mul %s, %z : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
  %r = torsh.add %m, %z : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
  func.return %r : tensor<3xi32>
}

// -----

// Does not: its elements are read at several places of the sum, and would be folded again at each.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %s = torsh.fused %x
// CHECK:           torsh.sum
// CHECK-NEXT:      torsh.yield
// CHECK:         torsh.fused %s, %z
// CHECK:           torsh.add
func.func @main(%x: tensor<4x3xf32>, %z: tensor<5x3xf32>) -> tensor<5x3xf32> {
  %s = torsh.sum %x {axes = array<i64: 0>} : (tensor<4x3xf32>) -> tensor<3xf32>
  %r = torsh.add %s, %z : (tensor<3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32>
  func.return %r : tensor<5x3xf32>
}

// -----

// Does not fire: a reshape is a view, a weight is memory, neither needs a kernel.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    %w = torsh.weight
// CHECK-NEXT:    %r = torsh.reshape %w
// CHECK-NEXT:    func.return %r
func.func @main() -> tensor<6xf32> {
  %w = torsh.weight {id = "w", type = tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %r = torsh.reshape %w {target = #torsh.dims<[6]>} : (tensor<2x3xf32>) -> tensor<6xf32>
  func.return %r : tensor<6xf32>
}

// -----

// Bytes are made in order, and then moved: the cast does not join the transpose.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.fused %x
// CHECK:           torsh.cast
// CHECK-NEXT:      torsh.yield
// CHECK:         torsh.fused
// CHECK:           torsh.transpose
func.func @main(%x: tensor<3x8x8xf32>) -> tensor<8x8x3xui8> {
  %r = torsh.round %x : (tensor<3x8x8xf32>) -> tensor<3x8x8xf32>
  %q = torsh.cast %r {to = ui8} : (tensor<3x8x8xf32>) -> tensor<3x8x8xui8>
  %t = torsh.transpose %q {perm = array<i64: 1, 2, 0>} : (tensor<3x8x8xui8>) -> tensor<8x8x3xui8>
  func.return %t : tensor<8x8x3xui8>
}

// -----

// What counts places, or tells an extent, is copied into each elementwise region that uses it.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.fused %x
// CHECK:           torsh.iota
// CHECK:           torsh.add
// CHECK:           torsh.yield
// CHECK:         torsh.fused %z
// CHECK:           torsh.iota
// CHECK:           torsh.mul
// CHECK:           torsh.yield
// CHECK-NOT:     torsh.fused
func.func @main(%x: tensor<4xi64>, %z: tensor<3x4xi64>) -> (tensor<4xi64>, tensor<3x4xi64>) {
  %i = torsh.iota {axis = 0 : i64, element = i64, target = #torsh.dims<[4]>} : () -> tensor<4xi64>
  %a = torsh.add %x, %i : (tensor<4xi64>, tensor<4xi64>) -> tensor<4xi64>
  %m = torsh.mul %z, %i : (tensor<3x4xi64>, tensor<4xi64>) -> tensor<3x4xi64>
  func.return %a, %m : tensor<4xi64>, tensor<3x4xi64>
}

// -----

// A product writes its operands where kernels read them: places stay a region of their own.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.fused
// CHECK-NEXT:      torsh.iota
// CHECK-NEXT:      torsh.yield
// CHECK:         torsh.fused %x
// CHECK:           torsh.matmul
func.func @main(%x: tensor<2x4xf32>) -> tensor<2xf32> {
  %i = torsh.iota {axis = 0 : i64, element = f32, target = #torsh.dims<[4]>} : () -> tensor<4xf32>
  %y = torsh.matmul %x, %i : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2xf32>
  func.return %y : tensor<2xf32>
}
