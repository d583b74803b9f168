// RUN: torsh-opt %s --emit kern | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s --emit llvm | filecheck %s --check-prefix=LLVM
// RUN: torsh-opt %s --emit asm | filecheck %s --check-prefix=ASM

// One kernel: the elements are independent lanes, each computed from a load of both operands.
// KERN-LABEL: kern.func {kind = "kernel"
// KERN:         kern.for %lo, %hi
// KERN:           kern.lanes
// KERN:             %[[A:.*]] = kern.load %in,
// KERN-NEXT:        %[[B:.*]] = kern.load %in_1,
// KERN-NEXT:        %[[S:.*]] = kern.binary %[[A]], %[[B]] {kind = "add"}
// KERN-NEXT:        %[[R:.*]] = kern.binary %[[S]], %{{.*}} {kind = "max"}
// KERN-NEXT:        kern.store %[[R]], %out

// The entry checks that both extents are the same symbol before it launches the kernel.
// KERN-LABEL: sym_name = "torsh_plan"
// KERN:         kern.check
// KERN-LABEL: sym_name = "torsh_run"
// KERN:         kern.launch %host, {{.*}}kernel = @{{[a-z_]+}}_

// Whole vectors first; then a quarter of one or halves, masked, for the tail; no fast-math, no
// fused multiply-add.
// LLVM-LABEL: define void @{{[a-z_]+}}_{{[0-9a-f]+}}(ptr noalias %args, i64 %lo, i64 %hi, i64 %worker) nounwind
// LLVM:         load <32 x float>
// LLVM:         fadd <32 x float>
// LLVM:         store <32 x float>
// LLVM:         call <8 x float> @llvm.masked.load.v8f32
// LLVM:         fadd <8 x float>
// LLVM:         call void @llvm.masked.store.v8f32
// LLVM:         call <16 x float> @llvm.masked.load.v16f32
// LLVM:         fadd <16 x float>
// LLVM:         call void @llvm.masked.store.v16f32
// LLVM:         ret void
// LLVM-NOT:     fadd fast
// LLVM-LABEL: define i32 @torsh_plan(
// LLVM-LABEL: define i32 @torsh_run(

// ASM:        vaddps
// ASM:        vmovups
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>, %y: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>> {
  %a = torsh.add %x, %y : (tensor<?xf32, #torsh.dims<[n]>>, tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
  %r = torsh.relu %a : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
  func.return %r : tensor<?xf32, #torsh.dims<[n]>>
}
