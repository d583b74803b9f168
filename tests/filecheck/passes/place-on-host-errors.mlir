// RUN: torsh-opt %s -p place-on-host --split-input-file --verify-diagnostics | filecheck %s

// CHECK: net.py:4:9: %g, the result of torsh.to_device, is on cuda:1, but the program is compiled for a CPU; compile it for a GPU
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32, #torsh.tensor<device = "cuda:1">> {
  %g = torsh.to_device %x {device = "cuda:1"} : (tensor<2xf32>) -> tensor<2xf32, #torsh.tensor<device = "cuda:1">> loc("net.py":4:9)
  func.return %g : tensor<2xf32, #torsh.tensor<device = "cuda:1">>
}

// -----

// CHECK: %x is on cuda, but the program is compiled for a CPU
func.func @main(%x: tensor<2xf32, #torsh.tensor<device = "cuda">>) {
  func.return
}
