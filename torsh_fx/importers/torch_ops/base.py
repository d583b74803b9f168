"""What converters of ATen ops work with: values, a builder with the node at hand, the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, Expr
from torsh_dialect.dtypes import Element, dtype_of, is_float
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.join import cut
from torsh_dialect.ops.movement import SqueezeOp, UnsqueezeOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.ops.shape import FullOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_types import element_of

if TYPE_CHECKING:
    from torsh_fx.importers.torch_graph import GraphImporter

Scalar: TypeAlias = "SSAValue | Dim | float | bool | complex"
Converter: TypeAlias = Callable[..., Any]

CONVERTERS: dict[str, Converter] = {}
"""By name of the op overload, e.g. `aten.add.Tensor`."""


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Register a converter `f(c, *args, **kwargs)` for op overloads.

    A name without an overload means its `default`; `aten.` may be left out. Of a library that is
    not known here, give all three: `mylib.foo.default`.
    """

    def register(function: Converter) -> Converter:
        for name in names:
            whole = name.count(".") >= 2 or ("." in name and name.split(".")[0] in LIBRARIES)
            full = name if whole else f"aten.{name}"
            full = full if full.count(".") >= 2 else f"{full}.default"
            CONVERTERS[full] = function
        return function

    return register


LIBRARIES = (
    "aten", "prims", "quantized_decomposed", "torchvision", "torchao", "transformers"
)  # fmt: skip


@dataclass
class NodeBuilder(Compose):
    """Builds ops for one node of a torch graph.

    Attributes:
        node: The node.
        graph: The importer of its graph.
    """

    node: torch.fx.Node
    graph: GraphImporter

    # -- what the source says of the node

    def meta(self, number: int | None = None) -> Any:
        """The fake tensor (or list of them) that the node gives."""
        value: Any = self.node.meta.get("val")
        return value if number is None else value[number]

    def out_element(self, number: int | None = None) -> Element:
        """The element type of the node's result."""
        return element_of(self.meta(number).dtype)

    def out_dims(self, number: int | None = None) -> tuple[Dim, ...]:
        """The extents of the node's result."""
        return tuple(self.graph.shared.dim(size) for size in self.meta(number).shape)

    def refuse(self, reason: str) -> UnsupportedError:
        """An error that says what about the node is not supported."""
        return UnsupportedError(reason)

    # -- values

    def tensor(self, value: Scalar, element: Element | None = None) -> SSAValue:
        """A number, extent or tensor as a tensor (scalars of rank 0), cast to `element`."""
        if isinstance(value, Expr):
            value = self.dim(value)
        if not isinstance(value, SSAValue):
            element = element or natural_element(value)
            row = dtype_of(element)
            wrapped = int(value.real) & (2**row.bits - 1) if row.kind in ("int", "uint") else value
            if row.kind in ("int", "uint") and isinstance(wrapped, int) and row.bits <= 64:
                wrapped -= 2**row.bits if row.kind == "int" and wrapped >> (row.bits - 1) else 0
            if row.kind == "bool":
                wrapped = bool(value)
            return self.b.constant(wrapped, element)  # pyright: ignore[reportArgumentType]
        return value if element is None else self.cast(value, element)

    def cast(self, x: SSAValue, element: Element, *, saturate: bool = False) -> SSAValue:
        """As torch converts: floats to narrow integers by way of i64, so that they wrap."""
        source = element_type(x)
        if source == element:
            return x
        row = dtype_of(element)
        narrow = row.kind in ("int", "uint") and row.bits < 64 and is_float(source)
        if narrow:
            x = self.b(CastOp, x, to=dtypes.i64)
        return self.b(CastOp, x, to=element, saturate=saturate or None)

    def full(self, value: Scalar, dims: Sequence[Dim], element: Element) -> SSAValue:
        """A tensor filled with a number."""
        return self.b(FullOp, self.tensor(value, element), target=dims_attribute(dims))

    def axis(self, axis: int, rank: int) -> int:
        """An axis as a number in 0..rank-1 (0 for a scalar)."""
        return axis % rank if rank else 0

    def axes(self, axes: int | Sequence[int] | None, rank: int) -> list[int]:
        """Axes as sorted numbers; all of them for None or an empty list."""
        if axes is None or axes == [] or axes == ():
            return list(range(rank))
        given = [axes] if isinstance(axes, int) else list(axes)
        return sorted({a % rank for a in given}) if rank else []

    def squeeze(self, x: SSAValue, *axes: int) -> SSAValue:
        """Without some axes of extent 1."""
        return self.b(SqueezeOp, x, axes=list(axes)) if axes else x

    def unsqueeze(self, x: SSAValue, *axes: int) -> SSAValue:
        """With new axes of extent 1 at these places of the result."""
        return self.b(UnsqueezeOp, x, axes=list(axes)) if axes else x

    def cut(self, x: SSAValue, axis: int, start: Dim, size: Dim, step: int = 1) -> SSAValue:
        """Every `step`-th element of an axis."""
        return cut(self.b, x, axis, start, size, step)

    def to_rank(self, x: SSAValue, rank: int) -> SSAValue:
        """With leading axes of extent 1 up to `rank`."""
        return self.unsqueeze(x, *range(rank - rank_of(x)))

    def expand(self, x: SSAValue, dims: Sequence[Dim]) -> SSAValue:
        """Broadcast to extents."""
        return self.broadcast(x, dims)

    def finished(self, x: SSAValue, number: int | None = None) -> SSAValue:
        """Cast to the element type that the source gives the node."""
        return self.cast(x, self.out_element(number))


def natural_element(value: Any) -> Element:
    """The element type that torch gives a Python number."""
    if isinstance(value, bool):
        return dtypes.i1
    if isinstance(value, int):
        return dtypes.i64
    return dtypes.c64 if isinstance(value, complex) else dtypes.f32


def dims_are(x: SSAValue, dims: Sequence[Dim]) -> bool:
    """Whether a value has these extents."""
    return dims_of(x) == tuple(dims)


def used(c: NodeBuilder, number: int) -> bool:
    """Whether result `number` of the node is used."""
    users: Any = c.node.users
    return any(
        getattr(u.target, "__name__", "") == "getitem" and u.args[1] == number for u in users
    )


def spatial(value: Any, rank: int) -> list[int]:
    """One entry for each spatial axis; a single one stands for all."""
    values = [value] if isinstance(value, int) else [int(str(v)) for v in value]
    return values * rank if len(values) == 1 else values
