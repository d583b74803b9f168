// RUN: torsh-opt %s -p place-on-host --split-input-file | filecheck %s

// Fires: no type names the CPU, and a move to it is nothing; layout and symbols stay.
// CHECK-LABEL: func.func @main(%x: tensor<?x2xf32, #torsh.tensor<dims = [n, 2], layout = [1, 0]>>) -> tensor<?x2xf32, #torsh.dims<{{\[}}n, 2]>> {
// CHECK-NEXT:    %w = torsh.weight {id = "w", type = tensor<2xf32>} : () -> tensor<2xf32>
// CHECK-NEXT:    %[[R:.*]] = torsh.add %x, %w
// CHECK-NEXT:    func.return %[[R]]
func.func @main(%x: tensor<?x2xf32, #torsh.tensor<dims = [n, 2], layout = [1, 0], device = "cpu">>) -> tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cpu">> {
  %w = torsh.weight {id = "w", type = tensor<2xf32, #torsh.tensor<device = "cpu">>} : () -> tensor<2xf32, #torsh.tensor<device = "cpu">>
  %a = torsh.add %x, %w : (tensor<?x2xf32, #torsh.tensor<dims = [n, 2], layout = [1, 0], device = "cpu">>, tensor<2xf32, #torsh.tensor<device = "cpu">>) -> tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cpu">>
  %b = torsh.to_device %a {device = "cpu"} : (tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cpu">>) -> tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cpu">>
  func.return %b : tensor<?x2xf32, #torsh.tensor<dims = [n, 2], device = "cpu">>
}

// -----

// Fires: from wherever the program runs to the CPU is nowhere else.
// CHECK-LABEL: func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
// CHECK-NEXT:    func.return %x : tensor<2xf32>
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32, #torsh.tensor<device = "cpu">> {
  %a = torsh.to_device %x {device = "cpu"} : (tensor<2xf32>) -> tensor<2xf32, #torsh.tensor<device = "cpu">>
  func.return %a : tensor<2xf32, #torsh.tensor<device = "cpu">>
}

// -----

// Does not fire: no device is named.
// CHECK-LABEL: func.func @main(%x: tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32> {
// CHECK-NEXT:    torsh.relu %x : (tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32>
func.func @main(%x: tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32> {
  %y = torsh.relu %x : (tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}
