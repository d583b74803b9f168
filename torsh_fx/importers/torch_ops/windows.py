"""Padding, diagonals, windows and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.ops import blocks, diagonal, join
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts


@converts("constant_pad_nd")
def _constant_pad(c: NodeBuilder, x: SSAValue, pad: Sequence[Dim], value: Scalar = 0) -> SSAValue:
    low, high = _pads(x, pad)
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, int | float) and element_type(x) not in (dtypes.c64, dtypes.c128):
        whole = dtypes.is_integer(element_type(x)) or element_type(x) == dtypes.i1
        return c.b(
            join.PadOp,
            x,
            low=low,
            high=high,
            mode="constant",
            value=int(value) if whole else float(value),
        )
    filler = c.tensor(value, element_type(x))
    return c.b(join.PadOp, x, filler, low=low, high=high, mode="constant")


def _pads(x: SSAValue, pad: Sequence[Dim]) -> tuple[Any, Any]:
    rank = rank_of(x)
    low: list[Dim] = [0] * rank
    high: list[Dim] = [0] * rank
    for n in range(len(pad) // 2):
        low[rank - 1 - n], high[rank - 1 - n] = pad[2 * n], pad[2 * n + 1]
    return dims_attribute(low), dims_attribute(high)


def _pad_mode(mode: str) -> Any:
    def convert(c: NodeBuilder, x: SSAValue, pad: Sequence[Dim]) -> SSAValue:
        low, high = _pads(x, pad)
        return c.b(join.PadOp, x, low=low, high=high, mode=mode)

    return convert


for _rank in (1, 2, 3):
    converts(f"reflection_pad{_rank}d")(_pad_mode("reflect"))
    converts(f"replication_pad{_rank}d")(_pad_mode("edge"))


@converts("_pad_circular")
def _pad_circular(c: NodeBuilder, x: SSAValue, pad: Sequence[Dim]) -> SSAValue:
    """Negative pads cut the edges off; what is left goes round."""
    cuts = [min(p, 0) if isinstance(p, int) else 0 for p in pad]
    rest = [max(p, 0) if isinstance(p, int) else p for p in pad]
    x = _constant_pad(c, x, cuts) if any(cuts) else x
    return _pad_mode("wrap")(c, x, rest)


@converts("pad")
def _pad(
    c: NodeBuilder, x: SSAValue, pad: Sequence[Dim], mode: str = "constant", value: Any = None
) -> SSAValue:
    if mode == "constant":
        return _constant_pad(c, x, pad, value or 0)
    if mode == "circular":
        return _pad_circular(c, x, pad)
    return _pad_mode({"reflect": "reflect", "replicate": "edge"}[mode])(c, x, pad)


@converts("diagonal", "diagonal_copy")
def _diagonal(
    c: NodeBuilder, x: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> SSAValue:
    return c.b(diagonal.DiagonalOp, x, offset=offset, axis1=dim1, axis2=dim2)


@converts("diag_embed")
def _diag_embed(
    c: NodeBuilder, x: SSAValue, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> SSAValue:
    first, second = (d % (rank_of(x) + 1) for d in (dim1, dim2))
    if first > second:
        offset, first, second = -offset, second, first
    return c.b(diagonal.DiagEmbedOp, x, offset=offset, axis1=first, axis2=second)


@converts("tril", "triu")
def _triangle(c: NodeBuilder, x: SSAValue, k: Dim = 0) -> SSAValue:
    upper = "triu" in str(c.node.target)
    return c.b(diagonal.TriangleOp, x, upper=upper, k=dims_attribute([k]))


@converts("unfold", "unfold_copy")
def _unfold(c: NodeBuilder, x: SSAValue, dim: int, size: int, step: int) -> SSAValue:
    return c.b(diagonal.WindowsOp, x, axis=dim, size=size, step=step)


@converts("as_strided", "as_strided_copy")
def _as_strided(
    c: NodeBuilder,
    x: SSAValue,
    size: Sequence[Dim],
    stride: Sequence[int],
    offset: Dim | None = None,
) -> SSAValue:
    first_argument: Any = c.node.args[0]
    source = first_argument.meta["val"]
    if not source.is_contiguous() or source.storage_offset() != 0:
        raise c.refuse("as_strided of a tensor that is not contiguous depends on its strides")
    first = dims_attribute([offset or 0])
    return c.b(
        diagonal.AsStridedOp, x, target=dims_attribute(size), strides=list(stride), offset=first
    )


@converts("im2col")
def _im2col(
    c: NodeBuilder, x: SSAValue, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> SSAValue:
    whole = c.unsqueeze(x, 0) if rank_of(x) == 3 else x
    y = c.b(
        blocks.Im2ColOp,
        whole,
        kernel=_pair(kernel_size),
        stride=_pair(stride),
        dilation=_pair(dilation),
        padding=_pair(padding),
    )
    return c.squeeze(y, 0) if rank_of(x) == 3 else y


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


@converts("col2im")
def _col2im(
    c: NodeBuilder,
    x: SSAValue,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> SSAValue:
    whole = c.unsqueeze(x, 0) if rank_of(x) == 2 else x
    pads = _pair(padding)
    y = c.b(
        blocks.Col2ImOp,
        whole,
        image=dims_attribute(output_size),
        kernel=_pair(kernel_size),
        stride=_pair(stride),
        dilation=_pair(dilation),
        low=pads,
        high=pads,
    )
    return c.squeeze(y, 0) if rank_of(x) == 2 else y


@converts("pixel_shuffle")
def _pixel_shuffle(c: NodeBuilder, x: SSAValue, factor: int) -> SSAValue:
    return c.b(blocks.DepthToSpaceOp, x, block=factor, channels_first=True)


@converts("pixel_unshuffle")
def _pixel_unshuffle(c: NodeBuilder, x: SSAValue, factor: int) -> SSAValue:
    return c.b(blocks.SpaceToDepthOp, x, block=factor, channels_first=True)


@converts("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(c: NodeBuilder, x: SSAValue, groups: int) -> SSAValue:
    n, channels, *rest = dims_of(x)
    each = floordiv(channels, groups)
    split = c.reshape(x, [n, groups, each, *rest])
    perm = [0, 2, 1, *range(3, 3 + len(rest))]
    return c.reshape(c.transpose(split, perm), dims_of(x))
