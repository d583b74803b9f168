// RUN: torsh-opt %s -p to-gpu --split-input-file | filecheck %s

// Fires: a region is a kernel and its launch; equal regions share the kernel.
// CHECK:       builtin.module attributes {gpu.container_module} {
// CHECK:         "gpu.module"() <{sym_name = "kernels"}>
// CHECK-COUNT-1:   "gpu.func"()
// CHECK:         func.func @main
// CHECK:           %[[M:.*]] = "gpu.alloc"() {{.*}} : () -> memref<2x40xf32>
// CHECK:           %[[X:.*]] = builtin.unrealized_conversion_cast %x : tensor<2x40xf32> to !kern.buf<f32>
// CHECK:           %[[Y:.*]] = builtin.unrealized_conversion_cast %[[M]] : memref<2x40xf32> to !kern.buf<f32>
// CHECK:           "gpu.launch_func"({{.*}}, %[[X]], %[[Y]]) <{kernel = @kernels::@k_
// CHECK:           builtin.unrealized_conversion_cast %[[M]] : memref<2x40xf32> to tensor<2x40xf32>
// CHECK:           "gpu.launch_func"
// CHECK:           func.return
func.func @main(%x: tensor<2x40xf32>) -> tensor<2x40xf32> {
  %a = torsh.fused %x {
  ^bb0(%0: tensor<2x40xf32>):
    %1 = torsh.relu %0 : (tensor<2x40xf32>) -> tensor<2x40xf32>
    torsh.yield %1 : (tensor<2x40xf32>) -> ()
  } : (tensor<2x40xf32>) -> tensor<2x40xf32>
  %b = torsh.fused %a {
  ^bb0(%0: tensor<2x40xf32>):
    %1 = torsh.relu %0 : (tensor<2x40xf32>) -> tensor<2x40xf32>
    torsh.yield %1 : (tensor<2x40xf32>) -> ()
  } : (tensor<2x40xf32>) -> tensor<2x40xf32>
  func.return %b : tensor<2x40xf32>
}

// -----

// Fires: the host computes symbolic extents, for the launch, the memory and the kernel.
// CHECK:       func.func @main
// CHECK:         %[[N:.*]] = tensor.dim %x, %{{.*}} : tensor<?xf32, #torsh.dims<[n]>>
// CHECK:         "gpu.alloc"(%[[N]]) {{.*}} -> memref<?xf32>
// CHECK:         %[[C:.*]] = kern.const {value = 4096 : index}
// CHECK:         kern.binary {{.*}}, %[[C]] {kind = "floordiv"}
// CHECK:         "gpu.launch_func"({{.*}}, %[[N]]) <{kernel = @kernels::@k_
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>> {
  %a = torsh.fused %x {
  ^bb0(%0: tensor<?xf32, #torsh.dims<[n]>>):
    %1 = torsh.relu %0 : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
    torsh.yield %1 : (tensor<?xf32, #torsh.dims<[n]>>) -> ()
  } : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
  func.return %a : tensor<?xf32, #torsh.dims<[n]>>
}

// -----

// Does not fire: a view is the host's.
// CHECK-NOT:   gpu
// CHECK:       func.func @main
// CHECK-NEXT:    %r = torsh.reshape %x
// CHECK-NEXT:    func.return %r
func.func @main(%x: tensor<2x3xf32>) -> tensor<6xf32> {
  %r = torsh.reshape %x {target = #torsh.dims<[6]>} : (tensor<2x3xf32>) -> tensor<6xf32>
  func.return %r : tensor<6xf32>
}

// -----

// Fires: what is on the CPU stays there, what is on the GPU is launched, and to_device is the copy.
// CHECK-COUNT-1: "gpu.func"()
// CHECK:       func.func @main
// CHECK-NEXT:    %[[A:.*]] = torsh.fused %x {
// CHECK-NEXT:    ^bb0
// CHECK-NEXT:      torsh.exp
// CHECK:         %[[M:.*]] = "gpu.alloc"() {{.*}} : () -> memref<8xf32>
// CHECK-NEXT:    %[[S:.*]] = builtin.unrealized_conversion_cast %[[A]] : tensor<8xf32, #torsh.tensor<device = "cpu">> to memref<8xf32>
// CHECK-NEXT:    "gpu.memcpy"(%[[M]], %[[S]])
// CHECK-NEXT:    %[[G:.*]] = builtin.unrealized_conversion_cast %[[M]] : memref<8xf32> to tensor<8xf32, #torsh.tensor<device = "cuda:0">>
// CHECK:         "gpu.launch_func"
// CHECK-NEXT:    %[[B:.*]] = builtin.unrealized_conversion_cast
// CHECK:         %[[H:.*]] = memref.alloc() : memref<8xf32>
// CHECK-NEXT:    %[[T:.*]] = builtin.unrealized_conversion_cast %[[B]]
// CHECK-NEXT:    "gpu.memcpy"(%[[H]], %[[T]])
// CHECK-NEXT:    %[[R:.*]] = builtin.unrealized_conversion_cast %[[H]] : memref<8xf32> to tensor<8xf32, #torsh.tensor<device = "cpu">>
// CHECK-NEXT:    func.return %[[R]]
func.func @main(%x: tensor<8xf32, #torsh.tensor<device = "cpu">>) -> tensor<8xf32, #torsh.tensor<device = "cpu">> {
  %a = torsh.fused %x {
  ^bb0(%0: tensor<8xf32, #torsh.tensor<device = "cpu">>):
    %1 = torsh.exp %0 : (tensor<8xf32, #torsh.tensor<device = "cpu">>) -> tensor<8xf32, #torsh.tensor<device = "cpu">>
    torsh.yield %1 : (tensor<8xf32, #torsh.tensor<device = "cpu">>) -> ()
  } : (tensor<8xf32, #torsh.tensor<device = "cpu">>) -> tensor<8xf32, #torsh.tensor<device = "cpu">>
  %g = torsh.to_device %a {device = "cuda:0"} : (tensor<8xf32, #torsh.tensor<device = "cpu">>) -> tensor<8xf32, #torsh.tensor<device = "cuda:0">>
  %b = torsh.fused %g {
  ^bb0(%0: tensor<8xf32, #torsh.tensor<device = "cuda:0">>):
    %1 = torsh.relu %0 : (tensor<8xf32, #torsh.tensor<device = "cuda:0">>) -> tensor<8xf32, #torsh.tensor<device = "cuda:0">>
    torsh.yield %1 : (tensor<8xf32, #torsh.tensor<device = "cuda:0">>) -> ()
  } : (tensor<8xf32, #torsh.tensor<device = "cuda:0">>) -> tensor<8xf32, #torsh.tensor<device = "cuda:0">>
  %c = torsh.to_device %b {device = "cpu"} : (tensor<8xf32, #torsh.tensor<device = "cuda:0">>) -> tensor<8xf32, #torsh.tensor<device = "cpu">>
  func.return %c : tensor<8xf32, #torsh.tensor<device = "cpu">>
}
