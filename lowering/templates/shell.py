"""The `kern.func` around a template: its argument words, and the region's ops around the root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import Attribute, Operation, OpResult, Region, SSAValue

import lowering.generic.all_rules  # noqa: F401  # pyright: ignore[reportUnusedImport]
from lowering.generic.evaluator import Evaluator, merged_groups, region_values
from lowering.kern import dialect as kern
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import Argument, Buffer, DimArgument, Kernel, Scratch, Workspace
from torsh_dialect import dtypes
from torsh_dialect.attributes import text
from torsh_dialect.dims import Dim, product
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of, element_type

FLOPS_PER_THREAD = 200_000
"""Operations under which a second thread costs more than it gives."""


class TemplateShell:
    """Builds the kernel of a fused region whose root is a template.

    Args:
        fused: The region.
        root: The op that the template computes.
    """

    def __init__(self, fused: FusedOp, root: Operation):
        self.fused = fused
        self.root = root
        self.b = KernBuilder("kernel")
        for name in ("lo", "hi", "worker"):
            self.b.argument(INDEX, name)
        self.arguments: list[Argument] = []
        self._buffers: dict[SSAValue, SSAValue] = {}

    # -- words, in the order that the template documents

    def operand(self, value: SSAValue) -> None:
        """The next word is the memory of an operand of the root."""
        block = self.fused.body.block
        position = list(block.args).index(value)  # pyright: ignore[reportArgumentType]
        self._word(buffer_of(element_type(value)), Buffer(position))

    def optional(self, value: SSAValue | None) -> None:
        """The next word is the memory of an operand of the root, 0 where it is not given."""
        if value is None:
            self.extent(0)
        else:
            self.operand(value)

    def result(self) -> None:
        """The next word is the memory of the result."""
        element = element_type(self.fused.results[0])
        self._word(buffer_of(element), Buffer(len(self.fused.operands)))

    def extent(self, dim: Dim) -> None:
        """The next word is an extent."""
        self._word(INDEX, DimArgument(dim))

    def scratch(self, bytes_each: int) -> None:
        """The next two words are the workers' scratch and the bytes of each."""
        self.plain_scratch()
        self.extent(bytes_each)

    def workspace(self, bytes_each: Dim) -> None:
        """The next two words are a memory that all units share and the bytes of each unit."""
        self._word(buffer_of(dtypes.i8), Workspace(0))
        self.extent(bytes_each)

    def plain_scratch(self) -> None:
        """The next word is the workers' scratch, whose bytes the template knows."""
        self._word(buffer_of(dtypes.i8), Scratch())

    def _word(self, type: Attribute, argument: Argument) -> None:
        self.b.argument(type, "word")
        self.arguments.append(argument)

    # -- what is fused around it

    def main_input(self, value: SSAValue) -> SSAValue:
        """The input of the region that ops before the root make `value` of, element by element.

        It is the one whose elements the template loads; others are read by the prologue.
        """
        while isinstance(value, OpResult):
            value = main_operand(value.op)
        return value

    def _prologue(self, value: SSAValue) -> Region | None:
        """Code for an element of the root's operand `value`; None where that is an input."""
        if not isinstance(value, OpResult):
            return None
        return self._hook(value, self.main_input(value), "prologue")

    def _epilogue(self) -> Region | None:
        """Code for an element of the region's result; None where that is the root's."""
        last = self.fused.body.block.last_op
        assert isinstance(last, YieldOp)
        (final,) = last.operands
        own = self.root.results[0]
        return None if final is own else self._hook(final, own, "epilogue")

    def _hook(self, final: SSAValue, given: SSAValue, name: str) -> Region:
        """Code that makes an element of `final` of the one of `given` at the same index."""
        values = [v for v in region_values([final], {given: given}) if v is not given]
        for value in self._read_by(values, given):
            if value not in self._buffers:
                position = list(self.fused.body.block.args).index(value)  # pyright: ignore[reportArgumentType]
                self._buffers[value] = self.b.argument(buffer_of(element_type(value)), name)
                self.arguments.append(Buffer(position))
        dims = dims_of(given)
        border = [n == len(dims) - 1 for n in range(len(dims))]
        groups = merged_groups(values, dims, border)

        def body(value: SSAValue, row: SSAValue, column: SSAValue) -> Sequence[SSAValue]:
            e = _HookEvaluator(self.b, self._buffers, None, groups)
            e.given, e.value = given, value
            return [e.element(final, [*self.b.unravel(row, e.dims(given)[:-1]), column])]

        return self.b.region([element_type(given), INDEX, INDEX], body)

    def _read_by(self, values: Sequence[SSAValue], given: SSAValue) -> list[SSAValue]:
        """Inputs of the region that the ops of `values` read, besides `given`."""
        inside = {value.op for value in values if isinstance(value, OpResult)}
        return [
            value
            for value in self.fused.body.block.args
            if value is not given and any(use.operation in inside for use in value.uses)
        ]

    # -- the kernel

    def finish(
        self,
        template: str,
        params: Any,
        units: Dim,
        unit_flops: float,
        scratch_bytes: int = 0,
        workspaces: tuple[Dim, ...] = (),
        prologue_of: SSAValue | None = None,
    ) -> Kernel:
        """The kernel; `unit_flops` decides from how many units on threads share the work.

        `prologue_of` is the operand of the root that ops of the region may compute.
        """
        op = kern.TemplateOp.create(
            properties={"template": text(template), "params": kern.TemplateAttr(params)}
        )
        prologue = None if prologue_of is None else self._prologue(prologue_of)
        epilogue = self._epilogue()
        if prologue is not None and epilogue is None:
            element = element_type(self.root.results[0])
            epilogue = self.b.region([element, INDEX, INDEX], _unchanged)
        for region in (epilogue, prologue):
            if region is not None:
                op.add_region(region)
        self.b.append(op)
        self.arguments.extend(DimArgument(dim) for dim in self.b.dim_arguments)
        grain = max(1, round(FLOPS_PER_THREAD / max(1.0, unit_flops)))
        return Kernel(
            self.b.finish(), units, grain, tuple(self.arguments), scratch_bytes, workspaces
        )


def _unchanged(value: SSAValue, *_: SSAValue) -> Sequence[SSAValue]:
    return [value]


class _HookEvaluator(Evaluator):
    """Knows one value as what the template holds in registers."""

    given: SSAValue
    value: SSAValue

    def element(
        self, value: SSAValue, index: Sequence[Index], where: SSAValue | None = None
    ) -> SSAValue:
        return self.value if value is self.given else super().element(value, index, where)


def main_operand(op: Operation) -> SSAValue:
    """The first operand that has the type of the op's result.

    Raises:
        StopIteration: There is none.
    """
    return next(operand for operand in op.operands if operand.type == op.results[0].type)


def is_alone(fused: FusedOp, x: SSAValue) -> bool:
    """Whether a region is one op and its yield, and `x` is an input of it."""
    return len(fused.body.block.ops) == 2 and x in fused.body.block.args


def rows_of(value: SSAValue) -> Dim:
    """All axes but the last, as one extent."""
    return product(dims_of(value)[:-1])


def static_or(dim: Dim, default: int) -> int:
    """A static extent, or a guess for a dynamic one."""
    return dim if isinstance(dim, int) else default


def is_root(value: SSAValue, cls: type[Operation]) -> bool:
    """Whether an op of class `cls` computes the value."""
    return isinstance(value, OpResult) and isinstance(value.op, cls)
