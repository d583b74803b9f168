// RUN: torsh-opt %s -p fuse --emit mlir | filecheck %s --check-prefix=FUSED
// RUN: torsh-opt %s --emit kern | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit gpu | filecheck %s --check-prefix=GPU
// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit nvptx | filecheck %s --check-prefix=NVPTX
// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit ptx | filecheck %s --check-prefix=PTX
// RUN: torsh-opt %s -p 'fuse,to-gpu' --emit ptx --gpu-target sm_90 | filecheck %s --check-prefix=PTX90

// FUSED: torsh.fused %x
// FUSED:   torsh.sum

// KERN: kern.reduce {{.*}} {block = 4096 : i64, lanes = 32 : i64}

// One warp for each 4,096 elements: rows of 10,000 take three.
// GPU:      "gpu.module"() <{sym_name = "kernels"}>
// GPU:        "gpu.func"()
// GPU:          %unit = "gpu.block_id"
// GPU:          %thread = "gpu.thread_id"
// GPU:          %lane = "gpu.lane_id"
// GPU:          %warp = "gpu.subgroup_id"
// GPU:          kern.for %unit
// GPU:            "gpu.workgroup_memory"() <{count = 3 : i64}>
// GPU:            kern.for {{.*}} {step = 12288 : i64}
// GPU:              kern.for {{.*}} {step = 32 : i64}
// GPU:                kern.load %in
// GPU:                kern.binary {{.*}} {kind = "add"}
// GPU-COUNT-5:      "gpu.shuffle"({{.*}}) <{mode = "down"}>
// GPU:              "gpu.shuffle"({{.*}}) <{mode = "idx"}>
// GPU:              kern.if
// GPU:              "gpu.barrier"
// GPU:              kern.for {{.*}} {step = 1 : i64}
// GPU:              "gpu.barrier"
// GPU:            kern.if
// GPU:              kern.store {{.*}}, %out
// GPU:          gpu.known_block_size = array<i32: 96, 1, 1>
// GPU:      func.func @main
// GPU:        "gpu.alloc"
// GPU:        "gpu.launch_func"{{.*}}kernel = @kernels::@k_
// GPU:        func.return

// NVPTX: @{{.*}}_shared0 = internal addrspace(3) global [3 x float] poison
// NVPTX: define ptx_kernel void @k_{{.*}}(ptr noalias readonly captures(none) %a0, ptr noalias captures(none) %a1) nounwind "nvvm.reqntid"="96,1,1" {
// NVPTX: call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
// NVPTX: call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 {{.*}}, i32 16, i32 31)
// NVPTX: call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 {{.*}}, i32 8, i32 31)
// NVPTX: call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 {{.*}}, i32 4, i32 31)
// NVPTX: call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 {{.*}}, i32 2, i32 31)
// NVPTX: call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 {{.*}}, i32 1, i32 31)
// NVPTX: call i32 @llvm.nvvm.shfl.sync.idx.i32(i32 -1, i32 {{.*}}, i32 0, i32 31)
// NVPTX: call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)

// PTX:     .target sm_80
// PTX:     .visible .entry k_
// PTX:     .reqntid 96, 1, 1
// PTX:     ld.global.nc.b32
// PTX:     add.rn.f32
// PTX:     shfl.sync.down.b32 {{.*}}, 16, 31, -1
// PTX:     shfl.sync.down.b32 {{.*}}, 1, 31, -1
// PTX:     st.shared.b32
// PTX:     bar{{.*}}sync
// PTX:     ld.shared.b32
// PTX:     st.global.b32
// PTX-NOT: .extern
// PTX90:   .target sm_90
func.func @main(%x: tensor<4x10000xf32>) -> tensor<4xf32> {
  %r = torsh.sum %x {axes = array<i64: 1>} : (tensor<4x10000xf32>) -> tensor<4xf32>
  func.return %r : tensor<4xf32>
}
