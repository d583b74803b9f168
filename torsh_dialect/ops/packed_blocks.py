"""Products with weights of 4 or 8 bits that have a scale for each block of the contraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, IntegerAttr
from xdsl.irdl import operand_def, prop_def, result_def

from torsh_dialect.attributes import Array, int_of
from torsh_dialect.declare import op
from torsh_dialect.dtypes import f32, i8
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.reference import narrow
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor


def unpacked(packed: Array, bits: int) -> Array:
    """The `[columns, K]` integers of packed panels, padding columns included."""
    panels, _, width = packed.shape
    steps: Any = packed
    if bits == 4:
        low, high = (steps << 4).astype(np.int8) >> 4, steps >> 4
        steps = np.stack([low, high], axis=2).reshape(panels, -1, width)
    return steps.transpose(0, 2, 1).reshape(panels * width, -1)


@op
class PackedLinearBlocksOp(TensorOp):
    """x @ w, where w[k, n] = q[k, n] * scale[k // block, n]: the sum of a block is scaled once.

    x is [..., K], the result [..., columns]. q is packed as [panels, K, NR], or with `bits` 4 as
    [panels, K / 2, NR]: the low half of a byte is the step before the high half, both signed.
    Scales are [panels, K / block, NR]. What is past the last column is zero.

    C1: x and the scale are f32, w is i8. C2: `bits` is 4 or 8, `block` divides K and is even for
    4 bits. C3: weight and scale have room for `columns`.

    %r = torsh.packed_linear_blocks %x, %w, %s {bits = 8 : i64, block = 2 : i64, columns = 5 : i64} : (tensor<3x4xf32>, tensor<1x4x16xi8>, tensor<1x2x16xf32>) -> tensor<3x5xf32>
    """  # noqa: E501

    name = "torsh.packed_linear_blocks"
    x = operand_def()
    w = operand_def()
    scale = operand_def()
    bits = prop_def(IntegerAttr[I64])
    block = prop_def(IntegerAttr[I64])
    columns = prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if (element_type(self.x), element_type(self.w), element_type(self.scale)) != (f32, i8, f32):
            raise ShapeError(f"operands are {self.x.type}, {self.w.type}, {self.scale.type} (C1)")
        x, w, scale = dims_of(self.x), dims_of(self.w), dims_of(self.scale)
        bits, block, columns = map(int_of, (self.bits, self.block, self.columns))
        if bits not in (4, 8) or block < 1 or block % (8 // bits) or not x:
            raise ShapeError(f"bits are {bits} and block {block} for x {list(x)} (C2)")
        k = x[-1]
        if not isinstance(k, int) or k % block:
            raise ShapeError(f"blocks of {block} do not divide {k} steps (C2)")
        panels, width = (d if isinstance(d, int) else 0 for d in (w[0], w[-1]))
        expected = (panels, k * bits // 8, width), (panels, k // block, width)
        if (w, scale) != expected or panels * width < columns:
            raise ShapeError(f"{list(w)} and {list(scale)} do not hold {columns} columns (C3)")
        return (tensor(f32, (*x[:-1], columns)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, columns = args[0].astype(np.float64), int_of(self.columns)
        q = unpacked(args[1], int_of(self.bits))[:columns].astype(np.float64)
        scale = args[2].transpose(0, 2, 1).reshape(-1, args[2].shape[1])[:columns]
        w = q * np.repeat(scale.astype(np.float64), int_of(self.block), axis=1)
        return (narrow(np.matmul(x, w.T), args[0]),)
