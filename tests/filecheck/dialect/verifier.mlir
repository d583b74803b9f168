// RUN: torsh-opt %s --split-input-file --verify-diagnostics | filecheck %s

// A result type that operands do not imply.
// CHECK: torsh.relu: result is tensor<3x3xf32>, but operands imply tensor<2x3xf32>
func.func @main(%x: tensor<2x3xf32>) {
  %r = torsh.relu %x : (tensor<2x3xf32>) -> tensor<3x3xf32>
  func.return
}

// -----

// Another element type.
// CHECK: torsh.exp: result is tensor<2x3xf64>, but operands imply tensor<2x3xf32>
func.func @main(%x: tensor<2x3xf32>) {
  %r = torsh.exp %x : (tensor<2x3xf32>) -> tensor<2x3xf64>
  func.return
}

// -----

// Extents that cannot be broadcast; the error has the op's location.
// CHECK: loc("net.py":7:1): torsh.add: extents 3 and 4 do not broadcast
func.func @main(%x: tensor<2x3xf32>, %y: tensor<2x4xf32>) {
  %r = torsh.add %x, %y : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<2x3xf32> loc("net.py":7:1)
  func.return
}

// -----

// Operands of two element types.
// CHECK: torsh.add: operands have element types f32 and f64; insert torsh.cast
func.func @main(%x: tensor<3xf32>, %y: tensor<3xf64>) {
  %r = torsh.add %x, %y : (tensor<3xf32>, tensor<3xf64>) -> tensor<3xf32>
  func.return
}

// -----

// conv, C2: channels are groups times the filters' second extent.
// CHECK: torsh.conv: channels and filter channels * 1 groups (C2): 4 and 3 differ
func.func @main(%x: tensor<1x4x8x8xf32>, %w: tensor<4x3x3x3xf32>) {
  %r = torsh.conv %x, %w : (tensor<1x4x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x6x6xf32>
  func.return
}

// -----

// conv, C3: the window fits.
// CHECK: torsh.conv: a window over 3 elements does not fit in an axis of 2
func.func @main(%x: tensor<1x3x2x2xf32>, %w: tensor<4x3x3x3xf32>) {
  %r = torsh.conv %x, %w : (tensor<1x3x2x2xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x1x1xf32>
  func.return
}

// -----

// batch_norm, C2: one statistic for each channel.
// CHECK: torsh.batch_norm: channels and statistics (C2): 3 and 4 differ
func.func @main(%x: tensor<2x3x4xf32>, %s: tensor<4xf32>) {
  %r = torsh.batch_norm %x, %s, %s, %s, %s {epsilon = 1.0e-05 : f64} : (tensor<2x3x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<2x3x4xf32>
  func.return
}

// -----

// matmul: the inner extents are equal.
// CHECK: torsh.matmul: contracted extents (C2): 3 and 4 differ
func.func @main(%x: tensor<2x3xf32>, %y: tensor<4x5xf32>) {
  %r = torsh.matmul %x, %y : (tensor<2x3xf32>, tensor<4x5xf32>) -> tensor<2x5xf32>
  func.return
}

// -----

// A reduction over an axis that is not there.
// CHECK: torsh.sum: axes [2] are out of range for a tensor of rank 2
func.func @main(%x: tensor<2x3xf32>) {
  %r = torsh.sum %x {axes = array<i64: 2>} : (tensor<2x3xf32>) -> tensor<2xf32>
  func.return
}

// -----

// loop, C1: the region yields a bool and the carried values.
// CHECK: torsh.loop: the region yields 1 values, expected a bool, 1 carried and 0 scanned (C1)
func.func @main(%x: tensor<3xf32>, %n: tensor<i64>, %t: tensor<i1>) {
  %r = torsh.loop %n, %t, %x {scans = 0 : i64} {
  ^bb0(%i : tensor<i64>, %v : tensor<3xf32>):
    torsh.yield %t : (tensor<i1>) -> ()
  } : (tensor<i64>, tensor<i1>, tensor<3xf32>) -> tensor<3xf32>
  func.return
}

// -----

// A property of another type.
// CHECK: torsh.softmax: "last" should be of base attribute integer
func.func @main(%x: tensor<2x3xf32>) {
  %r = torsh.softmax %x {axis = "last"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return
}

// -----

// An unknown op is an error of the text, with its place in the whole file.
// CHECK: verifier.mlir:109:
// CHECK: torsh.rleu is not registered
func.func @main(%x: tensor<3xf32>) {
  %r = torsh.rleu %x : (tensor<3xf32>) -> tensor<3xf32>
  func.return
}

// -----

// Operands on two devices: the op, where it is, both devices, and what to do.
// CHECK: loc("net.py":9:3): torsh.add: operands are on cpu and on cuda:0; move one of them with torsh.to_device
func.func @main(%x: tensor<3xf32, #torsh.tensor<device = "cpu">>, %y: tensor<3xf32, #torsh.tensor<device = "cuda:0">>) {
  %r = torsh.add %x, %y : (tensor<3xf32, #torsh.tensor<device = "cpu">>, tensor<3xf32, #torsh.tensor<device = "cuda:0">>) -> tensor<3xf32> loc("net.py":9:3)
  func.return
}

// -----

// A result elsewhere than the operands.
// CHECK: torsh.relu: result is tensor<3xf32, #torsh.tensor<device = "cpu">>, but operands imply tensor<3xf32, #torsh.tensor<device = "cuda:0">>
func.func @main(%x: tensor<3xf32, #torsh.tensor<device = "cuda:0">>) {
  %r = torsh.relu %x : (tensor<3xf32, #torsh.tensor<device = "cuda:0">>) -> tensor<3xf32, #torsh.tensor<device = "cpu">>
  func.return
}

// -----

// Results are row-major.
// CHECK: torsh.relu: result is tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>, but operands imply tensor<2x3xf32>
func.func @main(%x: tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) {
  %r = torsh.relu %x : (tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>
  func.return
}

// -----

// A layout of another rank, of an argument.
// CHECK: tensor<2x3x4xf32, #torsh.tensor<layout = [1, 0]>>: the layout has 2 axes
func.func @main(%x: tensor<2x3x4xf32, #torsh.tensor<layout = [1, 0]>>) {
  func.return
}
