"""Where a value lies: the order of its elements in memory, and its device."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import I64, DenseArrayBase, StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import operand_def, prop_def

from torsh_dialect.attributes import Array, ints_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.encodings import require_device
from torsh_dialect.kinds import C, Contents, I, Indices, Movement, Pick, contents_of
from torsh_dialect.types import AnyTensor, device_of, dims_of, element_type, layout_of, tensor


class Stored(Movement):
    """The operand itself; only the type says more."""

    x = operand_def()

    def same_device(self) -> Sequence[SSAValue]:
        return ()

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (args[0],)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        return (Pick(0, index),)

    def is_view(self) -> bool:
        return True

    def contents(self) -> Contents | None:
        return contents_of(self.x)


@op
class ToLayoutOp(Stored):
    """x, with its axes in the order `layout` in memory, outermost first.

    The values are those of x. What is computed from them is row-major again; the layout matters
    where the value leaves the program.

    C1: `layout` is an order of the axes of x.

    %r = torsh.to_layout %x {layout = array<i64: 1, 0>}
        : (tensor<2x3xf32>) -> tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>
    """

    name = "torsh.to_layout"
    layout = prop_def(DenseArrayBase[I64])

    def infer(self) -> Sequence[AnyTensor]:
        x = self.x
        return (tensor(element_type(x), dims_of(x), ints_of(self.layout), device_of(x)),)


@op
class ToDeviceOp(Stored):
    """x, on `device`: `cpu`, `cuda` or `cuda:N`.

    C1: `device` names a device.

    %r = torsh.to_device %x {device = "cpu"}
        : (tensor<2x3xf32>) -> tensor<2x3xf32, #torsh.tensor<device = "cpu">>
    """

    name = "torsh.to_device"
    device = prop_def(StringAttr)

    def infer(self) -> Sequence[Attribute]:
        device = require_device(str_of(self.device))
        return (tensor(element_type(self.x), dims_of(self.x), layout_of(self.x), device),)
