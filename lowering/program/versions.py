"""Kernels for calls in which some extents are 1.

A kernel with symbolic extents is made for long rows. Where a row, a window or a summed axis has one
element, most of what it does is in vain, so the region is compiled a second time with these
symbols replaced by 1, and the entry launches that where it finds them so:

    argmax over axis 1 of [n, m]: m = 1 | any m
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from xdsl.ir import Operation
from xdsl.rewriter import Rewriter

from lowering.kernel import Kernel, Version
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Bounds, Dim, evaluate_dim, substitute, symbols_of
from torsh_dialect.encodings import DimsAttr
from torsh_dialect.errors import TorshError
from torsh_dialect.kinds import (
    Contract,
    Control,
    DataDependent,
    Elementwise,
    Reduce,
    TensorOp,
    Window,
)
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.packed import PackedLinearOp
from torsh_dialect.ops.packed_integer import PackedLinearIntegerOp
from torsh_dialect.types import device_of, dims_of, element_type, layout_of, tensor

MOST_VERSIONS = 5
"""Of one region: each costs the time of compiling a kernel."""

SHORT = 2
"""Longest extent that an extent of a kernel for symbols of 1 may have: 2 h, but not 32 h."""

Case = frozenset[str]
"""Symbols that are all 1."""


def with_versions(
    kernel: Kernel, op: FusedOp, bounds: Mapping[str, Bounds], build: Callable[[FusedOp], Kernel]
) -> Kernel:
    """A region's kernel with its versions, those of most conditions first.

    Args:
        kernel: The kernel for all extents.
        op: The region.
        bounds: The bounds of the program's symbols.
        build: Makes the kernel of a region.
    """
    made: list[Version] = []
    for case in sorted(_possible(op, bounds)[:MOST_VERSIONS], key=len, reverse=True):
        ones: dict[str, Dim] = dict.fromkeys(case, 1)
        region = region_at(op, ones)
        one = None if region is None else build(region)
        if one is not None and one.workspaces in ((), tuple(_extents(kernel.workspaces, ones))):
            made.append(Version(tuple(sorted(case)), one))
    return replace(kernel, versions=tuple(made))


def _possible(op: FusedOp, bounds: Mapping[str, Bounds]) -> list[Case]:
    """The cases of a region that a call can be."""
    results = [r for inner in op.body.block.ops if isinstance(inner, DataDependent)
               for r in inner.results]  # fmt: skip
    own = {name for result in results for dim in dims_of(result) for name in symbols_of(dim)}
    found: dict[Case, None] = {}
    for case in _cases(op):
        if case and not case & own and all(_may_be_one(bounds.get(name)) for name in case):
            found[case] = None
    return list(found)


def _may_be_one(bounds: Bounds | None) -> bool:
    low, high = (0, None) if bounds is None else bounds
    return low <= 1 and (high is None or high >= 1)


def _cases(op: FusedOp) -> Iterator[Case]:
    """What is worth a kernel of its own, the most useful first."""
    for inner in op.body.block.ops:
        if isinstance(inner, Window):
            yield _symbols(dims_of(inner.operands[0])[1:])
        elif isinstance(inner, Reduce):
            dims = dims_of(inner.operands[0])
            yield _symbols([dims[axis] for axis in inner.axis_list()])
        elif isinstance(inner, PackedLinearOp | PackedLinearIntegerOp):
            yield _symbols(dims_of(inner.operands[0])[:-1])
        elif isinstance(inner, Contract):
            yield from _contracted(inner)
    last = op.body.block.last_op
    assert isinstance(last, YieldOp)
    values = (*last.operands, *op.body.block.args)
    shapes = {dims: None for dims in map(dims_of, values) if any(dim != 1 for dim in dims)}
    if len(shapes) > 1 or not all(isinstance(i, Elementwise | YieldOp) for i in op.body.block.ops):
        for dims in (*map(_image, shapes), *map(_row, shapes)):
            yield _symbols(dims)


def _contracted(op: Contract) -> Iterator[Case]:
    """One product of one element, many of them, and products of one row, column or step."""
    *terms, result = op.labels()
    extents = dict(zip(result, dims_of(op.results[0]), strict=True))
    for labels, value in zip(terms, op.operands, strict=False):
        extents.update(zip(labels, dims_of(value), strict=True))
    summed = [label for label in extents if label not in result]
    inner = [extents[label] for label in (*result[-2:], *summed)]
    for dims in (list(extents.values()), inner, *([dim] for dim in inner)):
        yield _symbols(dims)


def _row(dims: Sequence[Dim]) -> Sequence[Dim]:
    """The innermost extent of several."""
    return [dim for dim in dims if dim != 1][1:][-1:]


def _image(dims: Sequence[Dim]) -> Sequence[Dim]:
    """The symbolic extents behind the last known one: height and width behind channels."""
    known = [n for n, dim in enumerate(dims) if isinstance(dim, int) and dim != 1]
    return dims[known[-1] :] if known else ()


def _symbols(dims: Sequence[Dim]) -> Case:
    """The symbols of some extents; none where these are not short then, or quotients.

    Deep inside a model extents are quotients of those of its inputs, and an image that is one pixel
    there was none at its input.
    """
    symbolic = [dim for dim in dims if not isinstance(dim, int)]
    atoms = [atom for dim in symbolic for monomial, _ in dim.terms for atom in monomial]
    if any(atom.arguments for atom in atoms):
        return frozenset()
    case = frozenset(atom.name for atom in atoms)
    ones = dict.fromkeys(case, 1)
    return case if all(evaluate_dim(dim, ones) <= SHORT for dim in symbolic) else frozenset()


def region_at(op: FusedOp, values: Mapping[str, Dim]) -> FusedOp | None:
    """A copy of a region with values for some symbols; None where its ops refuse these."""
    copy = op.clone()
    try:
        for inner in copy.walk():
            _replace(inner, values)
    except TorshError:
        return None
    return copy


def _replace(op: Operation, values: Mapping[str, Dim]) -> None:
    """Put extents for symbols in the types and properties of an op, and see that it takes them."""
    for name, attribute in op.properties.items():
        if isinstance(attribute, DimsAttr):
            op.properties[name] = dims_attribute(_extents(attribute.data, values))
    arguments = [a for region in op.regions for block in region.blocks for a in block.args]
    for value in (*arguments, *op.results):
        dims = _extents(dims_of(value), values)
        known = tensor(element_type(value), dims, layout_of(value), device_of(value))
        Rewriter.replace_value_with_new_type(value, known)
    if isinstance(op, TensorOp) and not isinstance(op, Control):
        op.infer()


def _extents(dims: Sequence[Dim], values: Mapping[str, Dim]) -> list[Dim]:
    return [substitute(dim, values) for dim in dims]
