"""The `kern.func` around a template: its argument words, and the region's epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import Attribute, Operation, OpResult, Region, SSAValue

import lowering.generic.all_rules  # noqa: F401  # pyright: ignore[reportUnusedImport]
from lowering.generic.evaluator import Evaluator, merged_groups, region_values
from lowering.kern import dialect as kern
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import Argument, Buffer, DimArgument, Kernel, Scratch
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

    def result(self) -> None:
        """The next word is the memory of the result."""
        element = element_type(self.fused.results[0])
        self._word(buffer_of(element), Buffer(len(self.fused.operands)))

    def extent(self, dim: Dim) -> None:
        """The next word is an extent."""
        self._word(INDEX, DimArgument(dim))

    def scratch(self, bytes_each: int) -> None:
        """The next two words are the workers' scratch and the bytes of each."""
        self._word(buffer_of(dtypes.i8), Scratch())
        self._word(INDEX, DimArgument(bytes_each))

    def _word(self, type: Attribute, argument: Argument) -> None:
        self.b.argument(type, "word")
        self.arguments.append(argument)

    # -- the epilogue

    def _others(self) -> list[SSAValue]:
        """Inputs of the region that ops after the root read."""
        block = self.fused.body.block
        return [
            value
            for value in block.args
            if any(use.operation is not self.root for use in value.uses)
        ]

    def _epilogue(self, template: kern.TemplateOp) -> Region | None:
        last = self.fused.body.block.last_op
        assert isinstance(last, YieldOp)
        (final,) = last.operands
        own = self.root.results[0]
        if final is own:
            return None
        others = self._others()
        for value in others:
            position = list(self.fused.body.block.args).index(value)  # pyright: ignore[reportArgumentType]
            self._buffers[value] = self.b.argument(buffer_of(element_type(value)), "epilogue")
            self.arguments.append(Buffer(position))
        dims = dims_of(own)
        values = [v for v in region_values([final], {**self._buffers, own: own}) if v is not own]
        border = [n == len(dims) - 1 for n in range(len(dims))]
        groups = merged_groups(values, dims, border)

        def body(value: SSAValue, row: SSAValue, column: SSAValue) -> Sequence[SSAValue]:
            e = _EpilogueEvaluator(self.b, self._buffers, None, groups)
            e.given, e.value = own, value
            return [e.element(final, [*self._split(row, e.dims(own)[:-1]), column])]

        return self.b.region([element_type(own), INDEX, INDEX], body)

    def _split(self, row: SSAValue, outer: Sequence[Dim]) -> list[Index]:
        """The index of flat row `row` in the leading axes."""
        b, index, position = self.b, list[Index](), row
        rest: Index = position
        for dim in reversed(outer[1:]):
            extent = b.dim(dim)
            index.append(b.mod(rest, extent))
            rest = b.floordiv(rest, extent)
        return [rest, *reversed(index)] if outer else []

    # -- the kernel

    def finish(
        self, template: str, params: Any, units: Dim, unit_flops: float, scratch_bytes: int = 0
    ) -> Kernel:
        """The kernel; `unit_flops` decides from how many units on threads share the work."""
        op = kern.TemplateOp.create(
            properties={"template": text(template), "params": kern.TemplateAttr(params)}
        )
        region = self._epilogue(op)
        if region is not None:
            op.add_region(region)
        self.b.append(op)
        self.arguments.extend(DimArgument(dim) for dim in self.b.dim_arguments)
        grain = max(1, round(FLOPS_PER_THREAD / max(1.0, unit_flops)))
        return Kernel(self.b.finish(), units, grain, tuple(self.arguments), scratch_bytes)


class _EpilogueEvaluator(Evaluator):
    """Knows the template's result as the value in the accumulators."""

    given: SSAValue
    value: SSAValue

    def element(
        self, value: SSAValue, index: Sequence[Index], where: SSAValue | None = None
    ) -> SSAValue:
        return self.value if value is self.given else super().element(value, index, where)


def rows_of(value: SSAValue) -> Dim:
    """All axes but the last, as one extent."""
    return product(dims_of(value)[:-1])


def static_or(dim: Dim, default: int) -> int:
    """A static extent, or a guess for a dynamic one."""
    return dim if isinstance(dim, int) else default


def is_root(value: SSAValue, cls: type[Operation]) -> bool:
    """Whether an op of class `cls` computes the value."""
    return isinstance(value, OpResult) and isinstance(value.op, cls)
