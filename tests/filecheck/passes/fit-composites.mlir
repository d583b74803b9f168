// RUN: torsh-opt %s -p fit-composites,canonicalize --split-input-file | filecheck %s

// Fires: queries, keys and values are read where the projection left them, and rows come first.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.strided_attention %x, %x, %x
// CHECK-SAME:    extents = #torsh.dims<[2, 3, 3, 5, 5, 4, 4]>
// CHECK-SAME:    k_view = #torsh.dims<[12, 180, 4, 36]>
// CHECK-SAME:    q_view = #torsh.dims<[0, 180, 4, 36]>
// CHECK-SAME:    rows_first = true
// CHECK-SAME:    v_view = #torsh.dims<[24, 180, 4, 36]>
// CHECK-SAME:    -> tensor<2x5x3x4xf32>
// CHECK:         func.return
func.func @main(%x: tensor<2x5x36xf32>) -> tensor<2x5x3x4xf32> {
  %s = torsh.reshape %x {target = #torsh.dims<[2, 5, 3, 3, 4]>} : (tensor<2x5x36xf32>) -> tensor<2x5x3x3x4xf32>
  %t = torsh.transpose %s {perm = array<i64: 2, 0, 3, 1, 4>} : (tensor<2x5x3x3x4xf32>) -> tensor<3x2x3x5x4xf32>
  %a, %b, %c = torsh.split %t {axis = 0 : i64, sizes = #torsh.dims<[1, 1, 1]>} : (tensor<3x2x3x5x4xf32>) -> (tensor<1x2x3x5x4xf32>, tensor<1x2x3x5x4xf32>, tensor<1x2x3x5x4xf32>)
  %q = torsh.squeeze %a {axes = array<i64: 0>} : (tensor<1x2x3x5x4xf32>) -> tensor<2x3x5x4xf32>
  %k = torsh.squeeze %b {axes = array<i64: 0>} : (tensor<1x2x3x5x4xf32>) -> tensor<2x3x5x4xf32>
  %v = torsh.squeeze %c {axes = array<i64: 0>} : (tensor<1x2x3x5x4xf32>) -> tensor<2x3x5x4xf32>
  %y = torsh.attention %q, %k, %v : (tensor<2x3x5x4xf32>, tensor<2x3x5x4xf32>, tensor<2x3x5x4xf32>) -> tensor<2x3x5x4xf32>
  %r = torsh.transpose %y {perm = array<i64: 0, 2, 1, 3>} : (tensor<2x3x5x4xf32>) -> tensor<2x5x3x4xf32>
  func.return %r : tensor<2x5x3x4xf32>
}

// -----

// Keys that do not lie in rows are copied first; a symbolic length is part of the strides.
// CHECK-LABEL: func.func @main
// CHECK:         %[[K:.*]] = torsh.transpose %kt
// CHECK:         torsh.strided_attention %q, %[[K]], %v
// CHECK-SAME:    k_view = #torsh.dims<[0, "8*n", "4*n", 4]>
func.func @main(%q: tensor<1x2x3x4xf32>, %kt: tensor<1x2x4x?xf32, #torsh.dims<[1, 2, 4, n]>>, %v: tensor<1x2x?x6xf32, #torsh.dims<[1, 2, n, 6]>>) -> tensor<1x2x3x6xf32> {
  %k = torsh.transpose %kt {perm = array<i64: 0, 1, 3, 2>} : (tensor<1x2x4x?xf32, #torsh.dims<[1, 2, 4, n]>>) -> tensor<1x2x?x4xf32, #torsh.dims<[1, 2, n, 4]>>
  %y = torsh.attention %q, %k, %v : (tensor<1x2x3x4xf32>, tensor<1x2x?x4xf32, #torsh.dims<[1, 2, n, 4]>>, tensor<1x2x?x6xf32, #torsh.dims<[1, 2, n, 6]>>) -> tensor<1x2x3x6xf32>
  func.return %y : tensor<1x2x3x6xf32>
}

// -----

// A softmax along rows stays; a norm over two axes is one over rows.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.softmax %x
// CHECK:         torsh.layer_norm {{.*}}axis = -1 : i64{{.*}}(tensor<2x12xf32>)
// CHECK-NEXT:    torsh.reshape
func.func @main(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %s = torsh.softmax %x {axis = 2 : i64} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %y = torsh.layer_norm %s {axis = 1 : i64, epsilon = 1.0e-05 : f64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  func.return %y : tensor<2x3x4xf32>
}

// -----

// So does one over axes whose extents only the run knows.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.layer_norm {{.*}}axis = -1 : i64{{.*}}#torsh.dims<[n, "4*m"]>>)
func.func @main(%x: tensor<?x?x4xf32, #torsh.dims<[n, m, 4]>>) -> tensor<?x?x4xf32, #torsh.dims<[n, m, 4]>> {
  %y = torsh.layer_norm %x {axis = 1 : i64, epsilon = 1.0e-05 : f64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<?x?x4xf32, #torsh.dims<[n, m, 4]>>) -> tensor<?x?x4xf32, #torsh.dims<[n, m, 4]>>
  func.return %y : tensor<?x?x4xf32, #torsh.dims<[n, m, 4]>>
}

// -----

// Expanded: a softmax across rows, and one in half precision.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.softmax
func.func @main(%x: tensor<2x3xf32>, %h: tensor<2x3xf16>) -> (tensor<2x3xf32>, tensor<2x3xf16>) {
  %y = torsh.softmax %x {axis = 0 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %z = torsh.softmax %h {axis = 1 : i64} : (tensor<2x3xf16>) -> tensor<2x3xf16>
  func.return %y, %z : tensor<2x3xf32>, tensor<2x3xf16>
}

// -----

// Does not fire: a softmax along rows is what the template computes.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.softmax %x
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %y = torsh.softmax %x {axis = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}

// -----

// A resampling of sums is one op for each axis, the first axis first; repeated elements are looked
// for along the last axis first, where no axis shrinks.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.resize %x {{.*}}mode = "linear"{{.*}}#torsh.dims<[1, 2, 6, 3]>{{.*}}scales = array<f64: 1.000000e+00, 1.000000e+00, 2.000000e+00, 1.000000e+00>
// CHECK:         torsh.resize {{.*}}mode = "linear"{{.*}}#torsh.dims<[1, 2, 6, 9]>
// CHECK:         torsh.resize %x {{.*}}mode = "nearest"{{.*}}#torsh.dims<[1, 2, 3, 9]>
// CHECK:         torsh.resize {{.*}}mode = "nearest"{{.*}}#torsh.dims<[1, 2, 6, 9]>
// CHECK:         torsh.resize %x {{.*}}#torsh.dims<[1, 2, 2, 9]>
// CHECK-NOT:     torsh.resize
// CHECK:         func.return
func.func @main(%x: tensor<1x2x3x3xf32>) -> (tensor<1x2x6x9xf32>, tensor<1x2x6x9xf32>, tensor<1x2x2x9xf32>) {
  %a = torsh.resize %x {coordinates = "half_pixel", mode = "linear", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 2, 6, 9]>, scales = array<f64: 1.0, 1.0, 2.0, 3.0>} : (tensor<1x2x3x3xf32>) -> tensor<1x2x6x9xf32>
  %b = torsh.resize %x {coordinates = "half_pixel", mode = "nearest", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 2, 6, 9]>} : (tensor<1x2x3x3xf32>) -> tensor<1x2x6x9xf32>
  %c = torsh.resize %x {coordinates = "half_pixel", mode = "nearest", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 2, 2, 9]>} : (tensor<1x2x3x3xf32>) -> tensor<1x2x2x9xf32>
  func.return %a, %b, %c : tensor<1x2x6x9xf32>, tensor<1x2x6x9xf32>, tensor<1x2x2x9xf32>
}

// -----

// Filters that data or a fixed size make are expanded, as are sums of halves.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.resize
// CHECK:         func.return
func.func @main(%x: tensor<1x2x?x3xf32, #torsh.dims<[1, 2, h, 3]>>, %z: tensor<1x2x3x3xf16>) -> (tensor<1x2x6x9xf32>, tensor<1x2x2x2xf16>, tensor<1x2x6x3xf16>) {
  %a = torsh.resize %x {coordinates = "half_pixel", mode = "nearest", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 2, 6, 9]>} : (tensor<1x2x?x3xf32, #torsh.dims<[1, 2, h, 3]>>) -> tensor<1x2x6x9xf32>
  %b = torsh.resize %z {antialias = true, coordinates = "half_pixel", mode = "linear", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 2, 2, 2]>} : (tensor<1x2x3x3xf16>) -> tensor<1x2x2x2xf16>
  %c = torsh.resize %z {coordinates = "half_pixel", mode = "linear", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 2, 6, 3]>} : (tensor<1x2x3x3xf16>) -> tensor<1x2x6x3xf16>
  func.return %a, %b, %c : tensor<1x2x6x9xf32>, tensor<1x2x2x2xf16>, tensor<1x2x6x3xf16>
}
