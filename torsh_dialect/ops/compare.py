"""Element-wise comparisons. NaN is unequal to everything and neither below nor above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.kinds import Compare
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.scalar import Scalar, V


class NumpyCompare(Compare):
    """A comparison whose reference is one numpy function."""

    NUMPY: ClassVar[Callable[..., Any]]

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (type(self).NUMPY(args[0], args[1]),)


@op
class EqualOp(NumpyCompare):
    """Whether a = b.

    %r = torsh.eq %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.eq"
    NUMPY: ClassVar = np.equal
    SPELLED: ClassVar = Spelled(
        torch=("aten.eq.Tensor", "aten.eq.Scalar"), onnx=("Equal",), tensorflow=("Equal",)
    )

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.eq(x[0], x[1])


@op
class NotEqualOp(NumpyCompare):
    """Whether a differs from b.

    %r = torsh.ne %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.ne"
    NUMPY: ClassVar = np.not_equal
    SPELLED: ClassVar = Spelled(
        torch=("aten.ne.Tensor", "aten.ne.Scalar"), tensorflow=("NotEqual",)
    )

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.ne(x[0], x[1])


@op
class LessOp(NumpyCompare):
    """Whether a < b.

    %r = torsh.lt %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.lt"
    NUMPY: ClassVar = np.less
    SPELLED: ClassVar = Spelled(
        torch=("aten.lt.Tensor", "aten.lt.Scalar"), onnx=("Less",), tensorflow=("Less",)
    )

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.lt(x[0], x[1])


@op
class LessEqualOp(NumpyCompare):
    """Whether a <= b.

    %r = torsh.le %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.le"
    NUMPY: ClassVar = np.less_equal
    SPELLED: ClassVar = Spelled(
        torch=("aten.le.Tensor", "aten.le.Scalar"), onnx=("LessOrEqual",), tensorflow=("LessEqual",)
    )

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.le(x[0], x[1])


@op
class GreaterOp(NumpyCompare):
    """Whether a > b.

    %r = torsh.gt %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.gt"
    NUMPY: ClassVar = np.greater
    SPELLED: ClassVar = Spelled(
        torch=("aten.gt.Tensor", "aten.gt.Scalar"), onnx=("Greater",), tensorflow=("Greater",)
    )

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.gt(x[0], x[1])


@op
class GreaterEqualOp(NumpyCompare):
    """Whether a >= b.

    %r = torsh.ge %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.ge"
    NUMPY: ClassVar = np.greater_equal
    SPELLED: ClassVar = Spelled(
        torch=("aten.ge.Tensor", "aten.ge.Scalar"),
        onnx=("GreaterOrEqual",),
        tensorflow=("GreaterEqual",),
    )

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.ge(x[0], x[1])
