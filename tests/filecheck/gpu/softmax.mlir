// RUN: torsh-opt %s --emit gpu | filecheck %s --check-prefix=GPU
// RUN: torsh-opt %s --emit ptx | filecheck %s --check-prefix=PTX

// Both folds and the map are one kernel; the maximum is found once.
// GPU-COUNT-1: "gpu.func"()
// GPU-COUNT-5: "gpu.shuffle"({{.*}}) <{mode = "down"}>
// GPU:         "gpu.shuffle"({{.*}}) <{mode = "idx"}>
// GPU-COUNT-5: "gpu.shuffle"({{.*}}) <{mode = "down"}>
// GPU:         "gpu.shuffle"({{.*}}) <{mode = "idx"}>
// GPU-NOT:     "gpu.shuffle"
// GPU:         kern.for %thread
// GPU:         kern.store
// GPU-COUNT-1: "gpu.launch_func"

// PTX:         .reqntid 32, 1, 1
// PTX:         max.NaN.f32
// PTX:         div.rn.f32
// PTX:         st.global.b32
// PTX-NOT:     bar
func.func @main(%x: tensor<8x1000xf32>) -> tensor<8x1000xf32> {
  %r = torsh.softmax %x {axis = 1 : i64} : (tensor<8x1000xf32>) -> tensor<8x1000xf32>
  func.return %r : tensor<8x1000xf32>
}
