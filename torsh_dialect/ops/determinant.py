"""The determinant of square matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.irdl import operand_def, result_def

from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Extern
from torsh_dialect.ops.reference import narrow, require_equal, row_of
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor


@op
class DeterminantOp(Extern):
    """The determinant of the matrices in the last two axes, by LU factorisation.

    C1: x is floating-point, of rank 2 or more, with equal last extents.

    %r = torsh.determinant %x : (tensor<2x3x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.determinant"
    x = operand_def()
    y = result_def()
    SPELLED: ClassVar = Spelled(onnx=("Det",))

    def infer(self) -> Sequence[AnyTensor]:
        dims = dims_of(self.x)
        if len(dims) < 2 or row_of(self.x).kind != "float":
            raise ShapeError(f"x is {self.x.type}, expected floating-point matrices (C1)")
        require_equal("rows and columns (C1)", dims[-2], dims[-1])
        return (tensor(element_type(self.x), dims[:-2]),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        wide: Any = args[0].astype(np.float64)
        return (narrow(np.linalg.det(wide), args[0]),)
