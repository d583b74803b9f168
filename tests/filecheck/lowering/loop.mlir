// RUN: torsh-opt %s --emit kern | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s --emit llvm | filecheck %s --check-prefix=LLVM

// The loop is native: a while over the iteration and the condition around the body's launches.
// KERN-LABEL: sym_name = "torsh_run"
// KERN:         kern.while
// KERN:           kern.compare {{.*}} {kind = "lt"}
// KERN:           kern.binary {{.*}} {kind = "and"}
// KERN:         } {
// KERN:           kern.launch %host
// KERN:           kern.copy
// KERN:         kern.return

// LLVM-LABEL: define i32 @torsh_run(
// LLVM:         phi i64
// LLVM:         call void %parallel
// LLVM:         ret i32
func.func @main(%x: tensor<3xf32>, %n: tensor<i64>) -> tensor<3xf32> {
  %t = torsh.constant {value = #torsh.literal<"bool", [], [1]>} : () -> tensor<i1>
  %r = torsh.loop %n, %t, %x {scans = 0 : i64} {
  ^bb0(%i : tensor<i64>, %v : tensor<3xf32>):
    %w = torsh.add %v, %v : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    torsh.yield %t, %w : (tensor<i1>, tensor<3xf32>) -> ()
  } : (tensor<i64>, tensor<i1>, tensor<3xf32>) -> tensor<3xf32>
  func.return %r : tensor<3xf32>
}
