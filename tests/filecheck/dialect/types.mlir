// RUN: torsh-opt %s | torsh-opt | filecheck %s
// RUN: torsh-opt %s --print-op-generic | torsh-opt | filecheck %s

// Extents that are not numbers are named in the type; expressions are strings.
// CHECK-LABEL: func.func @dims(
// CHECK-SAME:    %x: tensor<?x784xf32, #torsh.dims<{{\[}}batch, 784]>>
// CHECK-SAME:    %y: tensor<?xf32, #torsh.dims<{{\[}}"2*h + 1"]>>
// CHECK-SAME:    torsh.symbols = {batch = array<i64: 1, 1024>, h = array<i64: 0>}
func.func @dims(%x: tensor<?x784xf32, #torsh.dims<[batch, 784]>>, %y: tensor<?xf32, #torsh.dims<["1 + 2*h"]>>) -> tensor<?x784xf32, #torsh.dims<[batch, 784]>> attributes {torsh.symbols = {batch = array<i64: 1, 1024>, h = array<i64: 0>}} {
  func.return %x : tensor<?x784xf32, #torsh.dims<[batch, 784]>>
}

// Layout and device, where they are not the default; extents only where one is symbolic.
// CHECK-LABEL: func.func @storage(
// CHECK-SAME:    %x: tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>
// CHECK-SAME:    %y: tensor<?x3xf32, #torsh.tensor<dims = ["2*n", 3], layout = [1, 0], device = "cuda:0">>
// CHECK-SAME:    %z: tensor<f32, #torsh.tensor<device = "cpu">>
// CHECK-NEXT:    torsh.relu %x : (tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>) -> tensor<1x3x8x8xf32>
// CHECK-NEXT:    torsh.exp %y : ({{.*}}) -> tensor<?x3xf32, #torsh.tensor<dims = ["2*n", 3], device = "cuda:0">>
func.func @storage(%x: tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>, %y: tensor<?x3xf32, #torsh.tensor<device = "cuda:0", layout = [1, 0], dims = ["n + n", 3]>>, %z: tensor<f32, #torsh.tensor<device = "cpu">>) {
  %0 = torsh.relu %x : (tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>) -> tensor<1x3x8x8xf32>
  %1 = torsh.exp %y : (tensor<?x3xf32, #torsh.tensor<dims = ["2*n", 3], layout = [1, 0], device = "cuda:0">>) -> tensor<?x3xf32, #torsh.tensor<dims = ["2*n", 3], device = "cuda:0">>
  func.return
}

// CHECK-LABEL: func.func @element_types(
// CHECK-SAME:    tensor<2xf16>, %b: tensor<2xbf16>, %c: tensor<2xi1>, %d: tensor<2xui8>, %e: tensor<2xi4>, %f: tensor<2xcomplex<f32>>, %g: tensor<2x!torsh.f8E4M3FN>, %h: !torsh.seq<tensor<2xf32>>
func.func @element_types(%a: tensor<2xf16>, %b: tensor<2xbf16>, %c: tensor<2xi1>, %d: tensor<2xui8>, %e: tensor<2xi4>, %f: tensor<2xcomplex<f32>>, %g: tensor<2x!torsh.f8E4M3FN>, %h: !torsh.seq<tensor<2xf32>>) {
  func.return
}

// Constants keep their bits: numbers where that is exact, else bytes.
// CHECK-LABEL: func.func @constants
// CHECK-NEXT:    #torsh.literal<"f32", [2], [1.5, -0.0]>
// CHECK-NEXT:    #torsh.literal<"f32", [], "0000c07f">
// CHECK-NEXT:    #torsh.literal<"bool", [2], [1, 0]>
// CHECK-NEXT:    torsh.weight {id = "layer.0.weight", type = tensor<10x784xf32>}
func.func @constants() {
  %0 = torsh.constant {value = #torsh.literal<"f32", [2], [1.5, -0.0]>} : () -> tensor<2xf32>
  %1 = torsh.constant {value = #torsh.literal<"f32", [], "0000c07f">} : () -> tensor<f32>
  %2 = torsh.constant {value = #torsh.literal<"bool", [2], [1, 0]>} : () -> tensor<2xi1>
  %3 = torsh.weight {id = "layer.0.weight", type = tensor<10x784xf32>} : () -> tensor<10x784xf32>
  func.return
}
