"""Element-wise arithmetic and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.kinds import Binary, Unary
from torsh_dialect.scalar import Scalar, V


@op
class ReluOp(Unary):
    """The larger of x and 0; NaN stays NaN.

    %r = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.relu"
    SPELLED: ClassVar = Spelled(torch=("aten.relu.default",), onnx=("Relu",), tensorflow=("Relu",))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.maximum(args[0], 0),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.max(x[0], s.const(0, s.dtype(x[0])))


@op
class AddOp(Binary):
    """a + b; integers wrap.

    %r = torsh.add %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.add"
    SPELLED: ClassVar = Spelled(onnx=("Add",), tensorflow=("Add", "AddV2"))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.add(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.add(x[0], x[1])
