"""The same bits as another element type."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Attribute
from xdsl.irdl import prop_def

from torsh_dialect.attributes import Array
from torsh_dialect.declare import op
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Unary
from torsh_dialect.scalar import Scalar, V


@op
class BitcastOp(Unary):
    """The bits of each element as another element type of the same width; a bool has 8.

    C1: both types have equal widths.

    %r = torsh.bitcast %x {to = i32} : (tensor<3xf32>) -> tensor<3xi32>
    """

    name = "torsh.bitcast"
    to = prop_def(Attribute)

    def result_element(self, *elements: Attribute) -> Attribute:
        source, to = dtype_of(elements[0]), dtype_of(self.to)
        if source.bytes != to.bytes:
            raise ShapeError(f"{source.name} and {to.name} differ in width (C1)")
        return self.to

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (args[0].view(dtype_of(self.to).numpy),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.bitcast(x[0], self.to)
