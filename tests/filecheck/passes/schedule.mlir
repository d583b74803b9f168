// RUN: torsh-opt %s -p schedule --split-input-file | filecheck %s
// RUN: torsh-opt %s -p schedule --split-input-file --target x86-64-v4 | filecheck %s --check-prefix=V4

// Fires: the weight is packed in panels of the target's width, and the bias becomes an addition.
// CHECK-LABEL: func.func @main
// CHECK:         torsh.pad {{.*}} -> tensor<1x8x4xf32>
// CHECK:         %[[P:.*]] = torsh.transpose {{.*}} -> tensor<1x1x4x8xf32>
// CHECK-NEXT:    %[[L:.*]] = torsh.packed_linear %x, %[[P]] {columns = 3 : i64}
// CHECK-NEXT:    torsh.add %[[L]], %b
// V4-LABEL: func.func @main
// V4:            torsh.packed_linear {{.*}}tensor<1x1x4x16xf32>
func.func @main(%x: tensor<?x4xf32, #torsh.dims<[n, 4]>>) -> tensor<?x3xf32, #torsh.dims<[n, 3]>> {
  %w = torsh.weight {id = "w", type = tensor<3x4xf32>} : () -> tensor<3x4xf32>
  %b = torsh.weight {id = "b", type = tensor<3xf32>} : () -> tensor<3xf32>
  %y = torsh.linear %x, %w, %b : (tensor<?x4xf32, #torsh.dims<[n, 4]>>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<?x3xf32, #torsh.dims<[n, 3]>>
  func.return %y : tensor<?x3xf32, #torsh.dims<[n, 3]>>
}

// -----

// Does not fire: the second factor is an input, nothing can be packed before a call.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    torsh.linear %x, %w
// CHECK-NEXT:    func.return
func.func @main(%x: tensor<2x4xf32>, %w: tensor<3x4xf32>) -> tensor<2x3xf32> {
  %y = torsh.linear %x, %w : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}
