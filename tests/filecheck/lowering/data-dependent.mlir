// RUN: torsh-opt %s --emit kern | filecheck %s --check-prefix=KERN
// RUN: torsh-opt %s --emit llvm | filecheck %s --check-prefix=LLVM

// The plan does not know the extent of the output.
// KERN-LABEL: sym_name = "torsh_plan"
// KERN:         value = -1 : index
// One kernel finds the extent, the host is asked for memory (output 0), a second kernel fills it.
// KERN-LABEL: sym_name = "torsh_run"
// KERN:         kern.launch
// KERN:         %[[COUNT:.*]] = kern.load
// KERN:         kern.allocate {{.*}} {output = 0 : i64}
// KERN-NEXT:    kern.compare {{.*}} {kind = "ne"}
// KERN-NEXT:    kern.guard
// KERN:         kern.pointer
// KERN:         kern.launch
// KERN:         kern.return

// A refused allocation ends the run with the number of its check.
// LLVM-LABEL: define i32 @torsh_run(
// LLVM:         call ptr %alloc{{[0-9]*}}(ptr %context{{[0-9]*}}, i64 0, i64 2,
// LLVM:       refused{{[0-9]*}}:
// LLVM:         ret i32 {{[0-9]+}}
// LLVM:       passed{{[0-9]*}}:
func.func @main(%x: tensor<4x3xf32>) -> tensor<?x2xi64, #torsh.dims<[k, 2]>> {
  %y = torsh.nonzero %x {count = "k"} : (tensor<4x3xf32>) -> tensor<?x2xi64, #torsh.dims<[k, 2]>>
  func.return %y : tensor<?x2xi64, #torsh.dims<[k, 2]>>
}
