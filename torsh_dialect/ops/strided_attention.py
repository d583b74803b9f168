"""Attention whose operands stand somewhere in larger tensors, as projections leave them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import BoolAttr
from xdsl.irdl import opt_prop_def, prop_def

from torsh_dialect.attributes import Array, bool_of, extents_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.errors import ShapeError
from torsh_dialect.ops.attention import Attending
from torsh_dialect.ops.movement import fixed
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, tensor


@op
class StridedAttentionOp(Attending):
    """`torsh.attention` of views: q [B, H, L, E] is read from anywhere in its operand.

    `extents` is [B, H, G, L, S, E, F]. A view [offset, b, h, l] says that row l of head h of
    batch entry b begins at element offset + b * B' + h * H' + l * L' of the operand; the
    elements of a row follow each other. With `rows_first` the result is [B, L, H, F].

    C1: q, k and v have one floating element type.
    C2: every view lies within its operand, and G divides H.
    C3: the mask broadcasts to [B, H, L, S]; it is bool or has q's element type.

    %r = torsh.strided_attention %q, %k, %v {extents = #torsh.dims<[1, 2, 2, 3, 3, 4, 4]>, q_view = #torsh.dims<[0, 72, 4, 24]>, k_view = #torsh.dims<[8, 72, 4, 24]>, v_view = #torsh.dims<[16, 72, 4, 24]>, rows_first = true} : (tensor<1x3x24xf32>, tensor<1x3x24xf32>, tensor<1x3x24xf32>) -> tensor<1x3x2x4xf32>
    """  # noqa: E501

    name = "torsh.strided_attention"
    extents = prop_def(DimsAttr)
    q_view = prop_def(DimsAttr)
    k_view = prop_def(DimsAttr)
    v_view = prop_def(DimsAttr)
    rows_first = opt_prop_def(BoolAttr)

    def shapes(self) -> tuple[tuple[Dim, ...], tuple[Dim, ...], tuple[Dim, ...]]:
        """The extents of q, k and v."""
        b, h, g, rows, keys, e, f = extents_of(self.extents)
        return (b, h, rows, e), (b, g, keys, e), (b, g, keys, f)

    def views(self) -> tuple[tuple[Dim, ...], ...]:
        """Offset and strides of batch, head and row of q, k and v, in elements."""
        return tuple(extents_of(view) for view in (self.q_view, self.k_view, self.v_view))

    def infer(self) -> Sequence[AnyTensor]:
        if len(extents_of(self.extents)) != 7:
            raise ShapeError("`extents` is [B, H, G, L, S, E, F]")
        self.check_elements()
        b, h, g, rows, keys, _, width = extents_of(self.extents)
        if isinstance(h, int) and isinstance(g, int) and (not g or h % g):
            raise ShapeError(f"{g} key heads do not divide {h} query heads (C2)")
        operands = zip((self.q, self.k, self.v), self.views(), self.shapes(), strict=True)
        for value, view, shape in operands:
            _require_within(dims_of(value), view, shape)
        self.check_mask((b, h, rows, keys))
        dims = (b, rows, h, width) if bool_of(self.rows_first) else (b, h, rows, width)
        return (tensor(element_type(self.q), dims),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        b, h, g, rows, keys, e, f = fixed(self.extents)
        shapes = (b, h, rows, e), (b, g, keys, e), (b, g, keys, f)
        views = (fixed(view) for view in (self.q_view, self.k_view, self.v_view))
        q, k, v = (_viewed(*each) for each in zip(args[:3], views, shapes, strict=True))
        y = self.attended(q, k, v, args[3] if len(args) > 3 else None)
        return (y.swapaxes(1, 2) if bool_of(self.rows_first) else y,)

    def group(self) -> Dim:
        """Query heads that share a key head."""
        _, h, g, *_ = extents_of(self.extents)
        return floordiv(h, g)


def _viewed(array: Array, view: Sequence[int], shape: Sequence[int]) -> Array:
    flat = np.ascontiguousarray(array).reshape(-1)[view[0] :]
    strides = [size * array.itemsize for size in (*view[1:], 1)]
    return np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)


def _require_within(dims: Sequence[Dim], view: Sequence[Dim], shape: Sequence[Dim]) -> None:
    if len(view) != 4:
        raise ShapeError(f"a view is [offset, batch, head, row], got {list(view)} (C2)")
    numbers = [d for d in (*dims, *view, *shape) if isinstance(d, int)]
    if len(numbers) < len(dims) + len(view) + len(shape) or 0 in shape:
        return
    strides = zip((*view[1:], 1), shape, strict=True)
    last = int(str(view[0])) + sum(int(str(s)) * (int(str(n)) - 1) for s, n in strides)
    if min(int(str(d)) for d in view) < 0 or last >= int(np.prod([int(str(d)) for d in dims])):
        raise ShapeError(f"the view {list(view)} of {list(shape)} leaves {list(dims)} (C2)")
