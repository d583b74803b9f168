// RUN: torsh-opt %s | torsh-opt | filecheck %s
// RUN: torsh-opt %s --print-op-generic | torsh-opt | filecheck %s

// CHECK-LABEL: func.func @loop
// CHECK:         %r, %s = torsh.loop %n, %t, %x {
// CHECK-NEXT:    ^bb0(%i: tensor<i64>, %v: tensor<3xf32>):
// CHECK:           torsh.yield %t, %w, %w
// CHECK-NEXT:    } : (tensor<i64>, tensor<i1>, tensor<3xf32>) -> (tensor<3xf32>, tensor<?x3xf32, #torsh.dims<{{\[}}rounds, 3]>>)
func.func @loop(%x: tensor<3xf32>, %n: tensor<i64>) -> tensor<3xf32> {
  %t = torsh.constant {value = #torsh.literal<"bool", [], [1]>} : () -> tensor<i1>
  %r, %s = torsh.loop %n, %t, %x {scans = 1 : i64, symbols = ["rounds"]} {
  ^bb0(%i : tensor<i64>, %v : tensor<3xf32>):
    %w = torsh.add %v, %v : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    torsh.yield %t, %w, %w : (tensor<i1>, tensor<3xf32>, tensor<3xf32>) -> ()
  } : (tensor<i64>, tensor<i1>, tensor<3xf32>) -> (tensor<3xf32>, tensor<?x3xf32, #torsh.dims<[rounds, 3]>>)
  func.return %r : tensor<3xf32>
}

// CHECK-LABEL: func.func @cond
// CHECK:         %r = torsh.cond %p {
// CHECK-NEXT:      torsh.yield %x
// CHECK-NEXT:    } {
// CHECK-NEXT:      %n = torsh.neg %x
// CHECK-NEXT:      torsh.yield %n
// CHECK-NEXT:    } : (tensor<i1>) -> tensor<3xf32>
func.func @cond(%p: tensor<i1>, %x: tensor<3xf32>) -> tensor<3xf32> {
  %r = torsh.cond %p {
    torsh.yield %x : (tensor<3xf32>) -> ()
  } {
    %n = torsh.neg %x : (tensor<3xf32>) -> tensor<3xf32>
    torsh.yield %n : (tensor<3xf32>) -> ()
  } : (tensor<i1>) -> tensor<3xf32>
  func.return %r : tensor<3xf32>
}

// CHECK-LABEL: func.func @fused
// CHECK:         torsh.fused %x {
// CHECK-NEXT:    ^bb0(%a: tensor<3xf32>):
func.func @fused(%x: tensor<3xf32>) -> tensor<3xf32> {
  %r = torsh.fused %x {
  ^bb0(%a: tensor<3xf32>):
    %b = torsh.relu %a : (tensor<3xf32>) -> tensor<3xf32>
    torsh.yield %b : (tensor<3xf32>) -> ()
  } : (tensor<3xf32>) -> tensor<3xf32>
  func.return %r : tensor<3xf32>
}
