// RUN: torsh-opt %s -p update-slices --split-input-file | filecheck %s

// Fires: the result replaces the argument, nothing reads which afterwards.
// CHECK-LABEL: func.func @main
// CHECK:         %[[S:.*]] = torsh.constant {value = #torsh.literal<"i64", [2], [2, 0]>}
// CHECK-NEXT:    torsh.dynamic_update_slice %x, %[[S]], %u
// CHECK-NOT:     torsh.concat
func.func @main(%x: tensor<8x3xf32>, %u: tensor<1x3xf32>) -> tensor<8x3xf32> {
  %a = torsh.slice %x {starts = #torsh.dims<[0, 0]>, sizes = #torsh.dims<[2, 3]>, steps = array<i64: 1, 1>} : (tensor<8x3xf32>) -> tensor<2x3xf32>
  %b = torsh.slice %x {starts = #torsh.dims<[3, 0]>, sizes = #torsh.dims<[5, 3]>, steps = array<i64: 1, 1>} : (tensor<8x3xf32>) -> tensor<5x3xf32>
  %y = torsh.concat %a, %u, %b {axis = 0 : i64} : (tensor<2x3xf32>, tensor<1x3xf32>, tensor<5x3xf32>) -> tensor<8x3xf32>
  func.return %y : tensor<8x3xf32>
}

// -----

// Fires: a part of a part, with a start that is an extent.
// CHECK-LABEL: func.func @main
// CHECK:         %[[S:.*]] = torsh.concat {{.*}} {axis = 0 : i64}
// CHECK-NEXT:    torsh.dynamic_update_slice %x, %[[S]], %u
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<8x9xf32>, %u: tensor<2x1xf32>, %n: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<8x9xf32> {
  %t = torsh.slice %x {starts = #torsh.dims<[0, 0]>, sizes = #torsh.dims<[2, 9]>, steps = array<i64: 1, 1>} : (tensor<8x9xf32>) -> tensor<2x9xf32>
  %a = torsh.slice %t {starts = #torsh.dims<[0, 0]>, sizes = #torsh.dims<[2, n]>, steps = array<i64: 1, 1>} : (tensor<2x9xf32>) -> tensor<2x?xf32, #torsh.dims<[2, n]>>
  %b = torsh.slice %t {starts = #torsh.dims<[0, "n + 1"]>, sizes = #torsh.dims<[2, "-n + 8"]>, steps = array<i64: 1, 1>} : (tensor<2x9xf32>) -> tensor<2x?xf32, #torsh.dims<[2, "-n + 8"]>>
  %c = torsh.concat %a, %u, %b {axis = 1 : i64} : (tensor<2x?xf32, #torsh.dims<[2, n]>>, tensor<2x1xf32>, tensor<2x?xf32, #torsh.dims<[2, "-n + 8"]>>) -> tensor<2x9xf32>
  %d = torsh.slice %x {starts = #torsh.dims<[2, 0]>, sizes = #torsh.dims<[6, 9]>, steps = array<i64: 1, 1>} : (tensor<8x9xf32>) -> tensor<6x9xf32>
  %y = torsh.concat %c, %d {axis = 0 : i64} : (tensor<2x9xf32>, tensor<6x9xf32>) -> tensor<8x9xf32>
  func.return %y : tensor<8x9xf32>
}

// -----

// Does not fire: the argument is read afterwards.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.dynamic_update_slice
// CHECK:         torsh.concat
func.func @main(%x: tensor<8xf32>, %u: tensor<7xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %a = torsh.slice %x {starts = #torsh.dims<[0]>, sizes = #torsh.dims<[1]>, steps = array<i64: 1>} : (tensor<8xf32>) -> tensor<1xf32>
  %y = torsh.concat %a, %u {axis = 0 : i64} : (tensor<1xf32>, tensor<7xf32>) -> tensor<8xf32>
  %z = torsh.neg %x : (tensor<8xf32>) -> tensor<8xf32>
  func.return %y, %z : tensor<8xf32>, tensor<8xf32>
}

// -----

// Does not fire: the parts are elsewhere in the result than they were.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.dynamic_update_slice
// CHECK:         torsh.concat
func.func @main(%x: tensor<8xf32>, %u: tensor<1xf32>) -> tensor<8xf32> {
  %a = torsh.slice %x {starts = #torsh.dims<[1]>, sizes = #torsh.dims<[7]>, steps = array<i64: 1>} : (tensor<8xf32>) -> tensor<7xf32>
  %y = torsh.concat %a, %u {axis = 0 : i64} : (tensor<7xf32>, tensor<1xf32>) -> tensor<8xf32>
  func.return %y : tensor<8xf32>
}

// -----

// Does not fire: the result is not returned, so nothing carries it.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     torsh.dynamic_update_slice
// CHECK:         torsh.concat
func.func @main(%x: tensor<8xf32>, %u: tensor<7xf32>) -> tensor<8xf32> {
  %a = torsh.slice %x {starts = #torsh.dims<[0]>, sizes = #torsh.dims<[1]>, steps = array<i64: 1>} : (tensor<8xf32>) -> tensor<1xf32>
  %y = torsh.concat %a, %u {axis = 0 : i64} : (tensor<1xf32>, tensor<7xf32>) -> tensor<8xf32>
  %z = torsh.neg %y : (tensor<8xf32>) -> tensor<8xf32>
  func.return %z : tensor<8xf32>
}
