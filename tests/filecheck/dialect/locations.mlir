// RUN: torsh-opt %s -p canonicalize --print-debuginfo | filecheck %s

// The location of a replaced op passes to what replaces it; others keep theirs.
// CHECK:      torsh.relu %x {{.*}} loc("model.py":12:3)
// CHECK-NEXT: torsh.exp {{.*}} loc("encoder/layer.0")
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %a = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32> loc("model.py":12:3)
  %b = torsh.cast %a {to = f32} : (tensor<3xf32>) -> tensor<3xf32> loc("model.py":13:3)
  %c = torsh.exp %b : (tensor<3xf32>) -> tensor<3xf32> loc("encoder/layer.0")
  func.return %c : tensor<3xf32>
}
