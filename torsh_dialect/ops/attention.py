"""Scaled dot-product attention and rotary position embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import BoolAttr, Float64Type, FloatAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import operand_def, opt_operand_def, opt_prop_def, result_def

from torsh_dialect.attributes import Array, bool_of, extents_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, broadcast_shapes, floordiv
from torsh_dialect.dtypes import i1
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, TensorOp
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.reference import Real, narrow, positions, require_equal, row_of, wide
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor

F64 = FloatAttr[Float64Type]


class Attending(TensorOp):
    """What attention ops share: operands, how scores are made, and the numpy reference."""

    q = operand_def()
    k = operand_def()
    v = operand_def()
    mask = opt_operand_def()
    causal = opt_prop_def(BoolAttr)
    offset = opt_prop_def(Attribute)
    scale = opt_prop_def(F64)
    softcap = opt_prop_def(F64)
    nan_unseen = opt_prop_def(BoolAttr)
    y = result_def()

    def factor(self, size: int) -> float:
        """What the scores are multiplied by; `size` is E."""
        return 1 / math.sqrt(size) if self.scale is None else self.scale.value.data

    def cap(self) -> float:
        """The bound c of softcap(x) = c * tanh(x / c); 0 for none."""
        return 0.0 if self.softcap is None else max(0.0, self.softcap.value.data)

    def first_offset(self) -> Dim:
        """The key that the first query sees last, with `causal`."""
        return extents_of(self.offset)[0] if self.offset is not None else 0

    def check_elements(self) -> None:
        """Refuse operands of several element types, or of none that attention has.

        Raises:
            ShapeError: They are.
        """
        elements = {element_type(v) for v in (self.q, self.k, self.v)}
        if len(elements) > 1 or row_of(self.q).kind != "float":
            raise ShapeError(f"q, k and v need one floating element type (C1), got {elements}")

    def check_mask(self, scores: tuple[Dim, ...]) -> None:
        """Refuse a mask that does not fit scores [B, H, L, S].

        Raises:
            ShapeError: It does not.
        """
        if self.mask is None:
            return
        if element_type(self.mask) not in (i1, element_type(self.q)):
            raise ShapeError(f"the mask is {self.mask.type}, expected bool or q's type (C3)")
        if rank_of(self.mask) > 4:
            raise ShapeError(f"the mask has rank {rank_of(self.mask)} (C3)")
        joint = broadcast_shapes(dims_of(self.mask), scores)
        for a, b in zip(joint, scores, strict=True):
            require_equal("mask and scores (C3)", a, b)

    def attended(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        """The result [B, H, L, F] for q, k and v of four axes."""
        first = q
        q, k, v = map(wide, (q, k, v))
        k, v = (np.repeat(t, q.shape[1] // max(t.shape[1], 1), axis=1) for t in (k, v))
        scores = np.matmul(q, k.swapaxes(2, 3)) * q.dtype.type(self.factor(q.shape[3]))
        if self.cap():
            cap = q.dtype.type(self.cap())
            scores = cap * np.tanh(scores / cap)
        bias = self._bias(mask, scores)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = scores + bias
            top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
            e = np.exp(scores - top)
            weights = e / e.sum(axis=-1, keepdims=True)
        if not bool_of(self.nan_unseen):
            lowest: Any = np.broadcast_to(bias, scores.shape).max(-1, initial=-np.inf)
            unseen: Any = np.equal(lowest, -np.inf)
            weights = np.where(unseen[..., None], 0, weights)
        return narrow(np.matmul(weights, v), first)

    def _bias(self, mask: Array | None, scores: Real) -> Real:
        bias = np.zeros(scores.shape, scores.dtype)
        if mask is not None:
            bias = bias + (np.where(mask, 0, -np.inf) if mask.dtype == np.bool_ else wide(mask))
        if bool_of(self.causal):
            rows = positions(scores.shape[2])[:, None] + int(str(self.first_offset()))
            bias = np.where(positions(scores.shape[3]) <= rows, bias, -np.inf)
        return bias.astype(scores.dtype)  # pyright: ignore[reportReturnType]


@op
class AttentionOp(Attending, Composite):
    """softmax(softcap(scale * q @ transpose(k)) + mask) @ v for each batch entry and head.

    q is [B, H, L, E], k is [B, G, S, E], v is [B, G, S, F], the result [B, H, L, F]. Head h
    reads the key and value head h // (H / G). A bool mask lets its true positions be seen, a
    float mask is added; it broadcasts to [B, H, L, S]. With `causal`, query i sees keys j <=
    i + `offset` only. softcap(x) = c * tanh(x / c) where `softcap` c is given. A query that
    sees no key gives 0, or NaN with `nan_unseen`. `scale` is 1 / sqrt(E) where it is not given. Half precision is
    computed in f32 and rounded once.

    C1: q, k and v have rank 4 and one floating element type.
    C2: batches, key lengths and head sizes agree, and G divides H.
    C3: the mask broadcasts to [B, H, L, S]; it is bool or has q's element type.

    %r = torsh.attention %q, %k, %v {causal = true} : (tensor<1x4x2x8xf32>, tensor<1x2x3x8xf32>, tensor<1x2x3x5xf32>) -> tensor<1x4x2x5xf32>
    """  # noqa: E501

    name = "torsh.attention"
    SPELLED: ClassVar = Spelled()

    def infer(self) -> Sequence[AnyTensor]:
        if {rank_of(v) for v in (self.q, self.k, self.v)} != {4}:
            raise ShapeError("q, k and v need rank 4 (C1)")
        self.check_elements()
        q, k, v = dims_of(self.q), dims_of(self.k), dims_of(self.v)
        for what, a, b in (
            ("batches of q and k", q[0], k[0]),
            ("batches of k and v", k[0], v[0]),
            ("heads of k and v", k[1], v[1]),
            ("lengths of k and v", k[2], v[2]),
            ("head sizes of q and k", q[3], k[3]),
        ):
            require_equal(f"{what} (C2)", a, b)
        if isinstance(q[1], int) and isinstance(k[1], int) and (not k[1] or q[1] % k[1]):
            raise ShapeError(f"{k[1]} key heads do not divide {q[1]} query heads (C2)")
        self.check_mask((*q[:3], k[2]))
        return (tensor(element_type(self.q), (*q[:3], v[3])),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        q, k, v, *mask = args
        return (self.attended(q, k, v, mask[0] if mask else None),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        q, k, v = (c.wide(t) for t in (self.q, self.k, self.v))
        q, k, v = (self._grouped(c, t) for t in (q, k, v))
        scores = c.mul(c.matmul(q, c.transpose(k, [0, 1, 2, 4, 3])), self._factor(c, q))
        if self.cap():
            scores = c.mul(c.tanh(c.div(scores, self.cap())), self.cap())
        bias = self._expanded_bias(c, scores)
        if bias is not None:
            scores = c.add(scores, bias)
        top, guarded = c.max(scores, [4], keep=True), not bool_of(self.nan_unseen)
        if guarded:
            top = c.where(c.eq(top, c.like(-math.inf, top)), c.like(0.0, top), top)
        e = c.exp(c.sub(scores, top))
        total = c.sum(e, [4], keep=True)
        if guarded and bias is not None:
            total = c.where(c.eq(total, 0.0), c.like(1.0, total), total)
        y = c.matmul(c.div(e, total), v)
        dims = (*dims_of(self.q)[:3], dims_of(self.v)[3])
        return (c.narrow(c.reshape(y, dims), self.q),)

    def _factor(self, c: Compose, q: SSAValue) -> SSAValue:
        size = dims_of(self.q)[3]
        if isinstance(size, int) or self.scale is not None:
            return c.like(self.factor(size if isinstance(size, int) else 1), q)
        return c.div(c.like(1.0, q), c.sqrt(c.cast_like(c.dim(size), q)))

    def _grouped(self, c: Compose, t: SSAValue) -> SSAValue:
        """[B, H or G, ...] as [B, G, H / G or 1, ...].

        Keys and values have one head in a group by C2, even where their extents do not show it.
        """
        heads, (batch, mine, *rest) = dims_of(self.k)[1], dims_of(t)
        each = floordiv(mine, heads) if mine == dims_of(self.q)[1] else 1
        return c.reshape(t, (batch, heads, each, *rest))

    def _expanded_bias(self, c: Compose, scores: SSAValue) -> SSAValue | None:
        bias = None
        hidden = c.like(-math.inf, scores)
        if self.mask is not None:
            mask = self._five(c, self.mask)
            shown = element_type(mask) == i1
            bias = c.where(mask, c.like(0.0, scores), hidden) if shown else c.wide(mask)
        if bool_of(self.causal):
            rows = c.reshape(c.iota(dims_of(scores)[3]), (dims_of(scores)[3], 1))
            seen = c.le(c.iota(dims_of(scores)[4]), c.add(rows, c.dim(self.first_offset())))
            bias = c.where(seen, c.like(0.0, scores) if bias is None else bias, hidden)
        return bias

    def _five(self, c: Compose, mask: SSAValue) -> SSAValue:
        dims = (*(1,) * (4 - rank_of(mask)), *dims_of(mask))
        heads, groups = dims_of(self.q)[1], dims_of(self.k)[1]
        if dims[1] == 1:
            return c.reshape(mask, (dims[0], 1, *dims[1:]))
        if dims[1] != heads:  # a symbol, which may turn out to be 1
            mask = c.broadcast(mask, (dims[0], heads, *dims[2:]))
        return c.reshape(mask, (dims[0], groups, floordiv(heads, groups), *dims[2:]))


@op
class RotaryEmbeddingOp(Composite):
    """Rotates pairs of the first elements of each head by an angle that depends on the position.

    x is [B, H, L, E]; cos and sin are [B or 1, L, R / 2]. Of the first R elements of a head, the
    pairs are (i, i + R / 2), or (2i, 2i + 1) with `interleaved`: (a, b) becomes (cos a - sin b,
    sin a + cos b). Elements behind R stay.

    C1: x has rank 4, cos and sin rank 3 and x's element type.
    C2: R <= E.

    %r = torsh.rotary_embedding %x, %c, %s : (tensor<1x2x3x8xf32>, tensor<1x3x4xf32>, tensor<1x3x4xf32>) -> tensor<1x2x3x8xf32>
    """  # noqa: E501

    name = "torsh.rotary_embedding"
    x = operand_def()
    cos = operand_def()
    sin = operand_def()
    interleaved = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) != 4 or rank_of(self.cos) != 3 or rank_of(self.sin) != 3:
            raise ShapeError("x needs rank 4, cos and sin rank 3 (C1)")
        half, size = dims_of(self.cos)[2], dims_of(self.x)[3]
        if isinstance(half, int) and isinstance(size, int) and 2 * half > size:
            raise ShapeError(f"2 * {half} elements of heads of {size} are to be rotated (C2)")
        require_equal("extents of cos and sin (C1)", half, dims_of(self.sin)[2])
        return (tensor(element_type(self.x), dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, cos, sin = map(wide, args)
        cos, sin = cos[:, None], sin[:, None]
        half = cos.shape[-1]
        y = x.copy()
        if bool_of(self.interleaved):
            first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        else:
            first, second = slice(0, half), slice(half, 2 * half)
        a, b = x[..., first], x[..., second]
        y[..., first] = cos * a - sin * b
        y[..., second] = sin * a + cos * b
        return (narrow(y, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        x, half = c.wide(self.x), dims_of(self.cos)[2]
        cos, sin = (
            c.reshape(c.wide(t), (dims_of(t)[0], 1, *dims_of(t)[1:])) for t in (self.cos, self.sin)
        )
        turned, rest = c.slice(x, 3, 0, half * 2), None
        if dims_of(x)[3] != half * 2:
            rest = c.slice(x, 3, half * 2, dims_of(x)[3] - half * 2)
        if bool_of(self.interleaved):
            pairs = c.reshape(turned, (*dims_of(x)[:3], half, 2))
            first, second = (
                c.reshape(c.slice(pairs, 4, n, 1), (*dims_of(x)[:3], half)) for n in (0, 1)
            )
        else:
            first, second = c.slice(turned, 3, 0, half), c.slice(turned, 3, half, half)
        real = c.sub(c.mul(cos, first), c.mul(sin, second))
        imaginary = c.add(c.mul(sin, first), c.mul(cos, second))
        if bool_of(self.interleaved):
            ends = [c.reshape(t, (*dims_of(x)[:3], half, 1)) for t in (real, imaginary)]
            y = c.reshape(c.concat(ends, 4), dims_of(turned))
        else:
            y = c.concat([real, imaginary], 3)
        return (c.narrow(y if rest is None else c.concat([y, rest], 3), self.x),)
