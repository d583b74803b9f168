"""Put products and convolutions of 8-bit integers by weights on the target's integer kernels.

Before:

    %y = torsh.matmul_integer %a, %b, %az : (tensor<?x64xui8>, tensor<64x32xi8>, tensor<ui8>) -> ...

After, with the sums of %b's columns computed by `@prepare`:

    %p = (pad, reshape and transpose of %b into [1, panels, 1, words, NR, G])
    %t = torsh.packed_linear_integer %a, %p {columns = 32 : i64} : ...
    %y = torsh.sub %t, (torsh.mul %az, %sums) : ...

All is integer arithmetic modulo 2^32, hence exact. Kernels take i8 weights, and activations of
the one signedness that the target's instruction asks for: the other one is shifted by 128, in
value and zero point. A product of two activations is a `torsh.matmul` of such bytes, less the
same corrections, which a template packs as it runs. A convolution of single pixels is a product.
Depthwise convolutions, whose sums f32 holds exactly, become f32 ones. A product by a weight of
more steps than i32 holds for any values stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from lowering.cpu.templates.int8 import DOTS, MAXIMUM_K, STEPS, registers_of, way_of
from lowering.cpu.templates.window import Axis
from lowering.passes.pack_blocks import PackBlocks
from lowering.passes.schedule import window_axis
from torsh_dialect.attributes import dims_attribute, int_of
from torsh_dialect.context import Context
from torsh_dialect.dims import Dim, product
from torsh_dialect.driver import rewrite
from torsh_dialect.dtypes import f32, i8, i32, ui8
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.elementwise import AddOp, SubOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.ops.logic import BitwiseXorOp
from torsh_dialect.ops.packed_integer import PackedConvIntegerOp, PackedLinearIntegerOp
from torsh_dialect.ops.quant import ConvIntegerOp, MatMulIntegerOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.passes.roles import integer_of, is_weight_only
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type, is_static, rank_of

EXACT_IN_F32 = 2**24 // (255 * 255)
"""Most steps of products of 9-bit differences whose sums f32 holds exactly, in any order."""

RUN_CHANNELS = 16
"""Fewer channels than this are contracted by rows of the kernel, from a padded copy of x."""

Zero = SSAValue | int


@dataclass(frozen=True)
class Factor:
    """An operand: its bytes, and what of them means zero (a number, or i32)."""

    value: SSAValue
    zero: Zero

    @property
    def is_centred(self) -> bool:
        """Whether the zero point is known to be 0."""
        return isinstance(self.zero, int) and self.zero == 0


def shifted(c: Compose, value: SSAValue, zero: SSAValue | None, *, signed: bool) -> Factor:
    """An operand as i8 (`signed`) or ui8, shifted by 128 where it is the other one."""
    known = integer_of(zero)
    point: Zero = known if known is not None else c.cast(_present(zero), i32)
    wanted = i8 if signed else ui8
    if element_type(value) == wanted:
        return Factor(value, point)
    flipped = c.b(BitwiseXorOp, c.cast(value, wanted), c.constant(-128 if signed else 128, wanted))
    by = -128 if signed else 128
    return Factor(flipped, point + by if isinstance(point, int) else c.add(point, by))


def _present(value: SSAValue | None) -> SSAValue:
    assert value is not None
    return value


def pack(c: Compose, filters: SSAValue, *, signed: bool, target: TargetInfo) -> SSAValue:
    """`[groups, columns, taps, steps]` of i8 as `[groups, panels, taps, words, NR, G]`."""
    groups, columns, taps, steps = (d for d in dims_of(filters) if isinstance(d, int))
    width, each = registers_of(signed, target).width, STEPS[way_of(signed, target)]
    panels, words = -(-columns // width), -(-steps // each)
    high = [0, panels * width - columns, 0, words * each - steps]
    if any(high):
        low, ends = dims_attribute([0] * 4), dims_attribute(high)
        filters = c.b(PadOp, filters, low=low, high=ends, mode="constant")
    split = c.reshape(filters, (groups, panels, width, taps, words, each))
    return c.transpose(split, [0, 1, 3, 4, 2, 5])


def activation_signed(value: SSAValue, target: TargetInfo) -> bool:
    """Whether the kernel should see the activation as i8: as it is, or as dot products take it."""
    dots = {signed: way_of(signed, target) in DOTS for signed in (True, False)}
    return element_type(value) == i8 if dots[True] == dots[False] else dots[True]


@dataclass
class PackMatMulInteger(RewritePattern):
    """`matmul_integer` by a weight matrix."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MatMulIntegerOp, rewriter: PatternRewriter):
        if rank_of(op.b) != 2 or not is_static(op.b) or is_weight_only(op.a):
            return
        zero_known = op.b_zero is None or is_weight_only(op.b_zero)
        if not is_weight_only(op.b) or not zero_known or rank_of(op.a) < 1:
            return
        k, n = (d for d in dims_of(op.b) if isinstance(d, int))
        if dims_of(op.a)[-1] != k or not 0 < k <= MAXIMUM_K or not n:
            return
        c = Compose(RewriterBuilder(rewriter))
        signed = activation_signed(op.a, self.target)
        a = shifted(c, op.a, _as_column(c, op.a_zero), signed=signed)
        b = shifted(c, op.b, _as_row(c, op.b_zero, n), signed=True)
        columns = c.reshape(c.transpose(b.value, [1, 0]), (1, n, 1, k))
        packed = pack(c, columns, signed=signed, target=self.target)
        terms = _corrections(c, a, b, k)
        y = c.b(PackedLinearIntegerOp, a.value, packed, columns=n)
        rewriter.replace(op, (), [_less(c, y, terms)])


@dataclass
class ShiftMatMulInteger(RewritePattern):
    """`matmul_integer` of two activations, or of stacks of matrices."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MatMulIntegerOp, rewriter: PatternRewriter):
        a_dims, b_dims = dims_of(op.a), dims_of(op.b)
        k = a_dims[-1] if a_dims else 0
        if len(a_dims) < 2 or len(b_dims) < 2 or (isinstance(k, int) and not 0 < k <= MAXIMUM_K):
            return
        if k != b_dims[-2]:
            return
        c, n = Compose(RewriterBuilder(rewriter)), b_dims[-1]
        a_zero, b_zero = _as_column(c, op.a_zero), _as_row(c, op.b_zero, n)
        rows = op.a
        if len(b_dims) == 2 and len(a_dims) > 2 and (a_zero is None or rank_of(a_zero) == 0):
            rows = c.reshape(op.a, (product(a_dims[:-1]), k))
        elif a_dims[:-2] != b_dims[:-2]:
            return
        signed = activation_signed(rows, self.target)
        a = shifted(c, rows, a_zero, signed=signed)
        b = shifted(c, op.b, b_zero, signed=True)
        terms = _corrections(c, a, b, k)
        y = _less(c, c.b(MatMulOp, a.value, b.value, accumulate=i32), terms)
        rewriter.replace(op, (), [c.reshape(y, dims_of(op.y)) if rows is not op.a else y])


def _as_column(c: Compose, zero: SSAValue | None) -> SSAValue | None:
    """A zero point of rows as [M, 1]; one for all rows as a scalar."""
    if zero is None or (rank_of(zero) == 0):
        return zero
    if all(d == 1 for d in dims_of(zero)):
        return c.reshape(zero, ())
    return c.reshape(zero, (dims_of(zero)[0], 1)) if rank_of(zero) == 1 else zero


def _as_row(c: Compose, zero: SSAValue | None, n: Dim) -> SSAValue | None:
    """A zero point of columns as [N], or [..., 1, N] in stacks; one for all as a scalar."""
    if zero is None:
        return None
    if all(d == 1 for d in dims_of(zero)):
        return c.reshape(zero, ())
    stacked = any(d != 1 for d in dims_of(zero)[:-1])
    return zero if stacked else c.reshape(zero, (n,))


def _corrections(c: Compose, a: Factor, b: Factor, k: Dim) -> list[SSAValue]:
    """What a product of bytes has too much, by column and by row.

    (a - za) (b - zb) = ab - za (sum of b - k zb) - zb (sum of a). They stand before the product,
    so that its kernel takes them off where it stores.
    """
    found: list[SSAValue] = []
    if not a.is_centred:
        rank, terms = rank_of(b.value), c.cast(b.value, i32)
        if not b.is_centred and not isinstance(k, int):
            terms = c.sub(terms, b.zero)
        sums = c.sum(terms, [rank - 2], keep=rank > 2)
        if not b.is_centred and isinstance(k, int):
            sums = c.sub(sums, k * b.zero if isinstance(b.zero, int) else c.mul(b.zero, k))
        found.append(c.mul(sums, a.zero))
    if not b.is_centred:
        rows = c.sum(c.cast(a.value, i32), [rank_of(a.value) - 1], keep=True)
        found.append(c.mul(rows, b.zero))
    return found


def _less(c: Compose, y: SSAValue, terms: Sequence[SSAValue]) -> SSAValue:
    for term in terms:
        y = c.sub(y, term)
    return y


@dataclass
class PackConvInteger(RewritePattern):
    """`conv_integer` by weight filters, in NHWC."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvIntegerOp, rewriter: PatternRewriter):
        rank = rank_of(op.x)
        if rank not in (3, 4) or not is_static(op.w) or not is_weight_only(op.w):
            return
        if op.w_zero is not None and not is_weight_only(op.w_zero):
            return
        channels = op.split(op.x)[1]
        each, *kernel = (d for d in dims_of(op.w)[1:] if isinstance(d, int))
        g = op.geometry()
        axes = [a for a in (window_axis(g, n) for n in range(rank - 2)) if a is not None]
        fits = 0 < each * prod(kernel) <= MAXIMUM_K
        if len(axes) != rank - 2 or not isinstance(channels, int) or not fits:
            return
        c, groups = (
            Compose(RewriterBuilder(rewriter)),
            1 if op.groups is None else int_of(op.groups),
        )
        if each == 1 and groups > 1:
            if prod(kernel) <= EXACT_IN_F32:
                rewriter.replace(op, (), [_in_floats(c, op)])
            return
        x = op.x if op.channels_last() else c.transpose(op.x, [0, *range(2, rank), 1])
        signed = activation_signed(x, self.target)
        zero = None if op.x_zero is None else c.reshape(op.x_zero, ())
        conv = _Conv(c, self.target, signed, groups, axes)
        operands = shifted(c, x, zero, signed=signed), _filters(c, op)
        y, offsets = conv.products(*operands), conv.offsets(*operands)
        axis = rank - 1
        if not op.channels_last():
            y, axis = c.transpose(y, [0, rank - 1, *range(1, rank - 1)]), 1
        if offsets is not None:
            y = c.sub(y, c.per_channel(offsets, rank, axis))
        rewriter.replace(op, (), [y])


def _filters(c: Compose, op: ConvIntegerOp) -> Factor:
    """Filters [M, *K, C / groups] as i8, with a zero point that broadcasts to [M]."""
    filters, zero = dims_of(op.w)[0], op.w_zero
    if zero is not None:
        zero = c.reshape(zero, () if all(d == 1 for d in dims_of(zero)) else (filters,))
    w = c.transpose(op.w, [0, *range(2, rank_of(op.w)), 1])
    return shifted(c, w, zero, signed=True)


def _in_floats(c: Compose, op: ConvIntegerOp) -> SSAValue:
    """The convolution of the differences in f32, whose sums are exact integers."""
    x, w = c.cast(op.x, i32), c.cast(op.w, i32)
    if op.x_zero is not None:
        x = c.sub(x, c.reshape(c.cast(op.x_zero, i32), ()))
    if integer_of(op.w_zero) != 0:
        zero = c.cast(_present(op.w_zero), i32)
        single = all(d == 1 for d in dims_of(zero))
        w = c.sub(w, c.reshape(zero, ()) if single else c.per_channel(zero, rank_of(w), 0))
    names = ("strides", "dilations", "pads", "auto_pad", "data_layout", "groups")
    kept = {name: op.properties[name] for name in names if name in op.properties}
    return c.cast(c.b(ConvOp, c.cast(x, f32), c.cast(w, f32), None, **kept), i32)


@dataclass(frozen=True)
class _Conv:
    """Builds a convolution of bytes in NHWC."""

    c: Compose
    target: TargetInfo
    signed: bool
    groups: int
    axes: Sequence[Axis]

    def products(self, x: Factor, w: Factor) -> SSAValue:
        """Sums of x (w - zw); the sum of x in a window is its convolution by ones.

        With zx outside of the image each window is whole, so that the sums of
        (x - zx) (w - zw) differ from these by `offsets`.
        """
        c, columns = self.c, dims_of(w.value)[0]
        data, axes = self._padded(x)
        outside = x.zero if isinstance(x.zero, int) else 0
        y = self._packed(data, w.value, axes, outside)
        if w.is_centred:
            return y
        ones = c.broadcast(c.constant(1, i8), (self.groups, *dims_of(w.value)[1:]))
        windows = self._packed(data, ones, axes, outside)
        assert isinstance(columns, int)
        if self.groups > 1:
            windows = c.repeat(windows, columns // self.groups, rank_of(windows) - 1)
        return c.sub(y, c.mul(windows, w.zero))

    def offsets(self, x: Factor, w: Factor) -> SSAValue | None:
        """The sums of zx (w - zw), one for each filter; None where they are 0."""
        if x.is_centred:
            return None
        c, steps = self.c, prod(d for d in dims_of(w.value)[1:] if isinstance(d, int))
        sums = c.sum(c.cast(w.value, i32), list(range(1, rank_of(w.value))))
        if not w.is_centred:
            taken = steps * w.zero if isinstance(w.zero, int) else c.mul(w.zero, steps)
            sums = c.sub(sums, taken)
        return c.mul(sums, x.zero)

    def _padded(self, x: Factor) -> tuple[SSAValue, Sequence[Axis]]:
        """The activation, with what padding the kernel cannot supply in memory, and the rest.

        The kernel knows only constant zero points, and reads whole rows of the kernel (see
        `torsh.packed_conv_integer`) only where none of them is outside.
        """
        last, channels = self.axes[-1], dims_of(x.value)[-1]
        padded = [a.before or a.after for a in self.axes]
        known = isinstance(x.zero, int)
        wanted = [bool(p) and not known for p in padded]
        wanted[-1] = bool(padded[-1]) and (not known or self._by_rows(channels, last))
        if not any(wanted):
            return x.value, self.axes
        zero = x.zero if isinstance(x.zero, SSAValue) else self.c.constant(x.zero, i32)
        filler = self.c.cast(zero, element_type(x.value))
        chosen = list(zip(self.axes, wanted, strict=True))
        low = dims_attribute([0, *(a.before if want else 0 for a, want in chosen), 0])
        high = dims_attribute([0, *(a.after if want else 0 for a, want in chosen), 0])
        data = self.c.b(PadOp, x.value, filler, low=low, high=high, mode="constant")
        left = [Axis(a.kernel, a.stride, a.dilation, 0, 0) if want else a for a, want in chosen]
        return data, left

    def _by_rows(self, channels: Dim, last: Axis) -> bool:
        few = isinstance(channels, int) and channels < RUN_CHANNELS
        return few and self.groups == 1 and last.dilation == 1 and last.kernel > 1

    def _packed(self, x: SSAValue, w: SSAValue, axes: Sequence[Axis], outside: int) -> SSAValue:
        c, last = self.c, axes[-1]
        filters, *kernel, each = (d for d in dims_of(w) if isinstance(d, int))
        taps = prod(kernel)
        if self._by_rows(dims_of(x)[-1], last) and not (last.before or last.after):
            taps, each = taps // last.kernel, each * last.kernel
        matrix = c.reshape(w, (self.groups, filters // self.groups, taps, each))
        packed = pack(c, matrix, signed=self.signed, target=self.target)
        if self.groups == 1 and all(axis == Axis(1) for axis in axes):
            return c.b(PackedLinearIntegerOp, x, packed, columns=filters)
        pads = [*(a.before for a in axes), *(a.after for a in axes)]
        return c.b(
            PackedConvIntegerOp, x, packed, data_layout="NHWC", kernel=kernel, filters=filters,
            groups=self.groups, strides=[a.stride for a in axes],
            dilations=[a.dilation for a in axes], pads=pads,
            outside=outside if any(pads) and outside else None,
        )  # fmt: skip


class MergeCorrections(RewritePattern):
    """x - weights + weights in i32 is x + (weights - weights): one addition behind a product."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: AddOp, rewriter: PatternRewriter):
        inner = op.a.owner
        if not isinstance(inner, SubOp) or element_type(op.y) != i32 or not op.a.has_one_use():
            return
        plain = is_weight_only(op.b) and is_weight_only(inner.b) and not is_weight_only(inner.a)
        if plain and dims_of(inner.a) == dims_of(op.y):
            c = Compose(RewriterBuilder(rewriter))
            rewriter.replace(op, (), [c.add(inner.a, c.sub(op.b, inner.b))])


@dataclass(frozen=True)
class ScheduleIntegerPass(ModulePass):
    """See the module docstring."""

    name = "schedule-integer"

    def apply(self, ctx: XdslContext, op: ModuleOp) -> None:
        assert isinstance(ctx, Context)
        if ctx.settings.allows("weight-only"):
            rewrite(op, PackBlocks(ctx.target))
        rewrite(op, PackMatMulInteger(ctx.target), PackConvInteger(ctx.target))
        rewrite(op, ShiftMatMulInteger(ctx.target))
        rewrite(op, MergeCorrections())
