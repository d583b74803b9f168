"""Ops that make tensors out of numbers and extents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import is_complex, is_float, is_integer
from torsh_dialect.ops.complex import ComplexOp, ImagOp, RealOp
from torsh_dialect.ops.shape import ExtentsOp, IotaOp, RampOp
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts


@converts(
    "full",
    "full_like",
    "new_full",
    "zeros",
    "zeros_like",
    "new_zeros",
    "ones",
    "ones_like",
    "new_ones",
    "empty.memory_format",
    "empty_like",
    "new_empty",
    "empty_strided",
    "scalar_tensor",
    "empty_permuted",
    "new_empty_strided",
    "_efficientzerotensor",
)
def _full(c: NodeBuilder, *given: Any, **options: Any) -> SSAValue:
    rest: list[Any] = list(given)
    name = str(c.node.target).split(".")[1]
    value: Scalar = 1 if "ones" in name else 0
    if name in ("full", "full_like"):
        value = rest[1] if len(rest) > 1 else options["fill_value"]
    if name == "new_full":
        value = rest[2]
    if name == "scalar_tensor":
        value = rest[0]
    return c.full(value, c.out_dims(), c.out_element())


@converts("arange.start_step", "arange.start", "arange", "range.step", "range", "prims.iota")
def _arange(c: NodeBuilder, *bounds: Scalar, step: Scalar = 1, **options: Any) -> SSAValue:
    name = str(c.node.target)
    start: Scalar = 0
    if "prims" in name:
        start, step = options["start"], options["step"]
    elif len(bounds) == 3:
        start, step = bounds[0], bounds[2]
    elif len(bounds) == 2:
        start = bounds[0]
    dims, element = c.out_dims(), c.out_element()
    whole = is_integer(element)
    count = c.b(IotaOp, target=dims_attribute(dims), axis=0, element=dtypes.i64)
    if start == 0 and step == 1 and whole:
        return c.cast(count, element)
    if not whole and dtypes.dtype_of(element).bits < 32:
        y = c.b(RampOp, count, c.tensor(start, dtypes.f32), c.tensor(step, dtypes.f32))
        return c.cast(y, element)
    return c.b(RampOp, count, c.tensor(start, element), c.tensor(step, element))


@converts(
    "linspace",
    "logspace",
    "linspace.Tensor_Tensor",
    "linspace.Tensor_Scalar",
    "linspace.Scalar_Tensor",
)
def _linspace(
    c: NodeBuilder, start: Scalar, end: Scalar, steps: Dim, base: float = 10.0, **options: Any
) -> SSAValue:
    """From both ends, as torch: start + step * i, then end - step * (n - 1 - i).

    Of integers torch cuts both ends before.
    """
    element, (count,) = c.out_element(), c.out_dims()
    if dtypes.is_integer(element):
        start, end = (c.cast(c.tensor(value), element) for value in (start, end))
    wide = element if is_float(element) and dtypes.dtype_of(element).bits >= 32 else dtypes.f32
    if is_complex(element):
        first, last = c.tensor(start, element), c.tensor(end, element)
        pair = [
            progression(c, c.b(part, first), c.b(part, last), count) for part in (RealOp, ImagOp)
        ]
        y = c.b(ComplexOp, *pair)
    else:
        y = progression(c, c.tensor(start, wide), c.tensor(end, wide), count)
    if "logspace" in str(c.node.target):
        y = c.pow(c.like(float(base), y), y)
    return c.cast(y, element)


def progression(c: NodeBuilder, first: SSAValue, last: SSAValue, count: Dim) -> SSAValue:
    """`count` floats at equal distances, as `torch.linspace` computes them."""
    wide, place = element_type(first), c.iota(count)
    spans = c.cast(c.dim(count - 1), wide)
    step = c.div(c.sub(last, first), c.maximum(spans, 1.0))
    along = c.cast(place, wide)
    front = c.add(first, c.mul(step, along))
    back = c.sub(last, c.mul(step, c.sub(spans, along)))
    half = c.lt(place, c.floordiv(c.dim(count), 2))
    return c.broadcast(first, [1]) if count == 1 else c.where(half, front, back)


@converts("eye", "eye.m")
def _eye(c: NodeBuilder, *sizes: Dim, **options: Any) -> SSAValue:
    rows, columns = c.out_dims()
    same = c.eq(c.unsqueeze(c.iota(rows), 1), c.unsqueeze(c.iota(columns), 0))
    return c.cast(same, c.out_element())


@converts("tril_indices", "triu_indices")
def _triangle_indices(
    c: NodeBuilder, row: int, column: int, offset: int = 0, **options: Any
) -> SSAValue:
    import numpy as np

    pick = np.tril_indices if "tril" in str(c.node.target) else np.triu_indices
    return c.constant(np.stack(pick(row, offset, column)), c.out_element())


@converts("_local_scalar_dense", "item")
def _item(c: NodeBuilder, x: SSAValue) -> Any:
    from torsh_fx.importers.torch_ops.symbolic import bound

    return bound(c, c.reshape(x, []))


@converts("sym_size.int", "sym_numel", "sym_stride.int", "sym_storage_offset")
def _sym_size(c: NodeBuilder, x: SSAValue, axis: int = 0) -> Any:
    return dims_of(x)[axis]


def extents(c: NodeBuilder, values: Sequence[Dim]) -> SSAValue:
    """Extents as an i64 tensor."""
    return c.b(ExtentsOp, values=dims_attribute(values))
