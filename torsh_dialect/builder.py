"""Building ops at the end of a block, before an op, and in the regions of control ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from torsh_dialect.attributes import Array, PropertyValue, literal
from torsh_dialect.dtypes import dtype_of, string
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Operand, TensorOp


@dataclass
class BlockBuilder:
    """A `torsh_dialect.kinds.Builder` that puts ops into a block.

    Attributes:
        block: Where ops go.
        before: The op in `block` before which they go; None for the end.
        location: The location of ops that are built.
    """

    block: Block
    before: Operation | None = None
    location: LocationAttr | None = None

    def put(self, op: Operation) -> Operation:
        """Insert an op that is built already."""
        if self.before is None:
            self.block.add_op(op)
        else:
            self.block.insert_op_before(op, self.before)
        return op

    def all(
        self,
        cls: type[TensorOp],
        *operands: Operand,
        regions: Sequence[Region] = (),
        **properties: PropertyValue,
    ) -> Sequence[SSAValue]:
        """Build an op and return all its results."""
        op = cls.make(*operands, location=self.location, regions=regions, **properties)
        return self.put(op).results

    def __call__(
        self, cls: type[TensorOp], *operands: Operand, **properties: PropertyValue
    ) -> SSAValue:
        """Build an op and return its first result."""
        return self.all(cls, *operands, regions=(), **properties)[0]

    def constant(self, value: float | Array, element: Attribute) -> SSAValue:
        """A constant of the given element type.

        Raises:
            ShapeError: The elements are strings.
        """
        from torsh_dialect.ops.constant import ConstantOp  # ops build with this module

        if element == string:
            raise ShapeError(f"the number {value} among strings, which have no arithmetic")
        array = np.asarray(value).astype(dtype_of(element).numpy)
        return self(ConstantOp, value=literal(array))


Fill = Callable[[BlockBuilder, Sequence[SSAValue]], Sequence[SSAValue]]


def build_region(
    types: Sequence[Attribute], fill: Fill, location: LocationAttr | None = None
) -> Region:
    """A region of one block with arguments of `types` that yields what `fill` gives.

    Args:
        types: Types of the block's arguments.
        fill: Builds the ops with a builder for the block, given the arguments.
        location: The location of the ops.
    """
    from torsh_dialect.ops.control import YieldOp

    block = Block(arg_types=types)
    inner = BlockBuilder(block, location=location)
    values = fill(inner, block.args)
    inner.put(YieldOp.create(operands=list(values), location=location))
    return Region(block)
