"""Random numbers, drawn in the order of the program from the model's stream.

Formulas are those of aten/core/TransformationHelper.h, aten/native/Dropout.cpp and
aten/native/Distributions.cpp of torch 2.13, so that the stream `mt19937` gives torch's numbers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, Expr
from torsh_dialect.dtypes import dtype_of, is_complex, is_float
from torsh_dialect.ops.complex import ViewAsComplexOp
from torsh_dialect.ops.maths import Log1pOp, TanOp
from torsh_dialect.ops.random import ShuffleOp
from torsh_dialect.ops.rejection import BinomialOp, PoissonOp, StandardGammaOp
from torsh_dialect.ops.scan import CumSumOp
from torsh_dialect.ops.sort import SearchSortedOp, TopKOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.random import Spread, Stream, computed_in, fused, unit, within
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts
from torsh_fx.importers.torch_types import element_of

Draw = Callable[[Sequence[Dim]], SSAValue]

WIDE_RANGE = 2**28
"""Integer ranges from this on are drawn from 64 bits (aten/core/DistributionsHelper.h)."""

LONG_ORDER = (2**32 - 1) // 20
"""Permutations from this length on are drawn from 64 bits (aten/native/TensorFactories.cpp)."""


def stream_of(c: NodeBuilder) -> Stream:
    """The model's stream.

    Raises:
        UnsupportedError: The node is in a nested graph that has no state to draw from.
    """
    stream = c.graph.shared.stream
    if c.graph.builder.block is not stream.block:
        raise c.refuse("random numbers in a nested graph of this kind; draw them before it")
    return stream


def number(c: NodeBuilder, value: Any, what: str, *, least: float, most: float) -> float:
    """A parameter of a distribution.

    Raises:
        UnsupportedError: It is no number, or outside its limits.
    """
    if not isinstance(value, int | float):
        raise c.refuse(f"{what} is not known when the model is compiled")
    if not least <= value <= most:
        raise c.refuse(f"{what} is {value}; it is a number from {least} to {most}")
    return float(value)


def in_memory_order(c: NodeBuilder, draw: Draw, dims: Sequence[Dim]) -> SSAValue:
    """Numbers drawn in the order in which torch's result lies in memory."""
    fake: Any = c.meta(0) if isinstance(c.meta(), tuple | list) else c.meta()
    if fake.is_contiguous() or len(fake.shape) != len(dims):
        return draw(dims)
    strides = [getattr(getattr(s, "node", None), "hint", s) for s in fake.stride()]
    order = sorted(range(len(dims)), key=lambda axis: (-int(strides[axis]), axis))
    drawn = draw([dims[axis] for axis in order])
    return c.transpose(drawn, [order.index(axis) for axis in range(len(dims))])


def is_dense(c: NodeBuilder) -> bool:
    """Whether torch's result is contiguous."""
    fake: Any = c.meta()
    return bool(fake.is_contiguous())


def fraction(c: NodeBuilder, dims: Sequence[Dim]) -> SSAValue:
    """Numbers in [0, 1) as f64, in memory order."""
    stream = stream_of(c)
    return in_memory_order(c, lambda d: stream.uniform(c, d, dtypes.f64), dims)


# -- continuous distributions


def uniform_between(c: NodeBuilder, element: Attribute, low: float, high: float) -> SSAValue:
    """Uniform numbers; what rounds to `high` becomes `low`."""
    stream, wide = stream_of(c), computed_in(element)

    def draw(dims: Sequence[Dim]) -> SSAValue:
        y = stream.uniform(c, dims, wide)
        if (low, high) == (0.0, 1.0):
            y = c.cast(y, element)
        else:
            y = c.cast(scaled(c, y, low, high), element)
        return c.where(c.eq(y, c.like(high, y)), c.like(low, y), y)

    return in_memory_order(c, draw, c.out_dims())


def scaled(c: NodeBuilder, x: SSAValue, low: float, high: float) -> SSAValue:
    """`x * (high - low) + low` in x's type."""
    if element_type(x) == dtypes.f64:
        return fused(c, x, high - low, low)
    first, last = (torch.tensor(v, dtype=torch.float32) for v in (low, high))
    return fused(c, x, float(last - first), float(first))


def as_complex(c: NodeBuilder, draw: Callable[[Attribute, Sequence[Dim]], SSAValue]) -> SSAValue:
    """Complex numbers, whose parts are drawn one after the other."""
    part = dtypes.f64 if c.out_element() == dtypes.c128 else dtypes.f32
    return c.b(ViewAsComplexOp, draw(part, [*c.out_dims(), 2]))


@converts("rand", "rand_like", "uniform")
def _uniform(c: NodeBuilder, *given: Any, **options: Any) -> SSAValue:
    low, high = 0.0, 1.0
    if "uniform" in str(c.node.target):
        low = given[1] if len(given) > 1 else options.get("from", low)
        high = given[2] if len(given) > 2 else options.get("to", high)
    low = number(c, low, "the lower bound", least=-math.inf, most=math.inf)
    high = number(c, high, "the upper bound", least=low, most=math.inf)
    if is_complex(c.out_element()):
        stream = stream_of(c)
        return as_complex(c, lambda part, dims: stream.uniform(c, dims, part))
    return uniform_between(c, c.out_element(), low, high)


def normal_numbers(c: NodeBuilder, spread: Spread) -> SSAValue:
    """Normally distributed numbers as the node's result."""
    stream, dense = stream_of(c), is_dense(c)
    if is_complex(c.out_element()):
        half = Spread(spread.mean, spread.deviation / math.sqrt(2))
        return as_complex(c, lambda part, d: stream.normal(c, d, part, half, dense=dense))
    element = c.out_element()
    return in_memory_order(
        c, lambda d: stream.normal(c, d, element, spread, dense=dense), c.out_dims()
    )


@converts("randn", "randn_like")
def _randn(c: NodeBuilder, *given: Any, **options: Any) -> SSAValue:
    return normal_numbers(c, Spread())


@converts("normal.float_float", "normal_functional")
def _normal(c: NodeBuilder, *given: Any, **options: Any) -> SSAValue:
    rest = given[1:] if "functional" in str(c.node.target) else given
    mean = rest[0] if rest else options.get("mean", 0.0)
    deviation = rest[1] if len(rest) > 1 else options.get("std", 1.0)
    mean = number(c, mean, "the mean", least=-math.inf, most=math.inf)
    deviation = number(c, deviation, "the standard deviation", least=0, most=math.inf)
    return normal_numbers(c, Spread(mean, deviation))


@converts("normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor")
def _normal_of_tensors(c: NodeBuilder, mean: Scalar, std: Scalar = 1.0, **options: Any) -> SSAValue:
    """The numbers of mean 0 are scaled and moved in the result's type."""
    element = c.out_element()
    if not isinstance(std, SSAValue):
        deviation = number(c, std, "the standard deviation", least=0, most=math.inf)
        return c.add(normal_numbers(c, Spread(0.0, deviation)), c.tensor(mean, element))
    deviations = within(c, c.tensor(std, element), 0.0, math.inf)
    drawn = c.mul(normal_numbers(c, Spread()), deviations)
    return c.add(drawn, c.tensor(mean, element))


@converts("exponential")
def _exponential(c: NodeBuilder, x: SSAValue, lambd: float = 1.0, **options: Any) -> SSAValue:
    rate = number(c, lambd, "the rate", least=math.ulp(0.0), most=math.inf)
    return c.finished(exponential(c, c.out_dims(), rate))


def exponential(c: NodeBuilder, dims: Sequence[Dim], rate: float) -> SSAValue:
    """Exponentially distributed numbers as f64."""
    return c.mul(c.b(Log1pOp, c.neg(fraction(c, dims))), -1.0 / rate)


@converts("cauchy")
def _cauchy(
    c: NodeBuilder, x: SSAValue, median: float = 0.0, sigma: float = 1.0, **options: Any
) -> SSAValue:
    sigma = number(c, sigma, "sigma", least=math.ulp(0.0), most=math.inf)
    turn = c.mul(c.sub(fraction(c, c.out_dims()), 0.5), math.pi)
    return c.finished(fused(c, c.b(TanOp, turn), sigma, float(median)))


@converts("log_normal")
def _log_normal(
    c: NodeBuilder, x: SSAValue, mean: float = 1.0, std: float = 2.0, **options: Any
) -> SSAValue:
    std, stream = number(c, std, "the deviation", least=math.ulp(0.0), most=math.inf), stream_of(c)
    drawn = in_memory_order(c, lambda d: stream.serial_normal(c, d), c.out_dims())
    return c.finished(c.exp(fused(c, drawn, std, float(mean))))


# -- discrete distributions


def chosen(c: NodeBuilder, dims: Sequence[Dim], p: float) -> SSAValue:
    """True with probability `p`."""
    return c.lt(fraction(c, dims), p)


@converts("bernoulli", "bernoulli.Tensor", "bernoulli.p")
def _bernoulli(c: NodeBuilder, x: SSAValue, p: Any = None, **options: Any) -> SSAValue:
    """A probability of less than 64 bits is compared with a number of 24."""
    if isinstance(p, int | float) or "bernoulli.p" in str(c.node.target):
        p = number(c, 0.5 if p is None else p, "the probability", least=0, most=1)
        return c.finished(chosen(c, c.out_dims(), p))
    chance, stream = x if p is None else p, stream_of(c)
    wide = computed_in(element_type(chance))
    drawn = in_memory_order(c, lambda d: stream.uniform(c, d, wide), c.out_dims())
    return c.finished(c.lt(drawn, c.cast(within(c, chance, 0.0, 1.0), wide)))


@converts("geometric")
def _geometric(c: NodeBuilder, x: SSAValue, p: float, **options: Any) -> SSAValue:
    p = number(c, p, "the probability", least=math.ulp(0.0), most=math.nextafter(1, 0))
    y = c.ceil(c.div(c.log(fraction(c, c.out_dims())), math.log1p(-p)))
    return c.finished(y)


def integers(c: NodeBuilder, low: int, width: int) -> SSAValue:
    """`low` and up, `width` of them, as the result's type."""
    stream, bits = stream_of(c), 64 if width >= WIDE_RANGE else 32

    def draw(dims: Sequence[Dim]) -> SSAValue:
        word = c.cast(stream.bits(c, dims, bits), dtypes.ui64)
        rest = word if width == 2**64 else c.remainder(word, c.constant(width, dtypes.ui64))
        return c.add(c.cast(rest, dtypes.i64), low) if low else c.cast(rest, dtypes.i64)

    return c.finished(in_memory_order(c, draw, c.out_dims()))


def symbolic_integers(c: NodeBuilder, low: Dim, high: Dim | SSAValue) -> SSAValue:
    """The same with a range that is known when the program runs, and checked then."""
    stream = stream_of(c)
    first = c.tensor(low, dtypes.i64)
    width = within(c, c.sub(c.tensor(high, dtypes.i64), first), 1.0, 2.0**63)
    width = c.cast(width, dtypes.ui64)
    wide = c.ge(width, c.like(WIDE_RANGE, width))

    def draw(dims: Sequence[Dim]) -> SSAValue:
        word = stream.bits_by(c, dims, wide)
        return c.add(c.cast(c.remainder(word, width), dtypes.i64), first)

    return c.finished(in_memory_order(c, draw, c.out_dims()))


@converts("randint_like.Tensor")
def _randint_below(c: NodeBuilder, x: SSAValue, high: SSAValue, **options: Any) -> SSAValue:
    return symbolic_integers(c, 0, c.reshape(high, []))


@converts("randint", "randint.low", "randint_like", "randint_like.low_dtype", "random.from",
          "random.to")  # fmt: skip
def _randint(c: NodeBuilder, *given: Any, **options: Any) -> SSAValue:
    name = str(c.node.target)
    rest = list(given[1:] if "like" in name or "random" in name else given)
    both = "low" in name or "from" in name
    low, high = (rest[0], rest[1]) if both else (0, rest[0])
    if "random" in name and both and high is None:
        high = limit_of(c.out_element()) + 1
    if isinstance(low, Expr) or isinstance(high, Expr):
        return symbolic_integers(c, low, high)
    if low >= high:
        raise c.refuse(f"the range from {low} to {high} (excluded) has no number")
    return integers(c, low, high - low)


def limit_of(element: Attribute) -> int:
    """The largest number that `random_` draws of a type."""
    row = dtype_of(element)
    if row.kind == "bool":
        return 1
    if is_float(element):
        return 2 ** {"f64": 53, "f32": 24, "f16": 11, "bf16": 8}[row.name]
    return 2 ** (row.bits - (row.kind == "int")) - 1


@converts("random")
def _random(c: NodeBuilder, x: SSAValue, **options: Any) -> SSAValue:
    """64 bits for f64 and i64, whatever the range; 32 for others."""
    element, stream = c.out_element(), stream_of(c)
    bits, width = 64 if dtype_of(element).bits == 64 else 32, limit_of(element) + 1

    def draw(dims: Sequence[Dim]) -> SSAValue:
        word = c.cast(stream.bits(c, dims, bits), dtypes.ui64)
        return c.cast(c.remainder(word, c.constant(width, dtypes.ui64)), dtypes.i64)

    return c.finished(in_memory_order(c, draw, c.out_dims()))


@converts("randperm")
def _randperm(c: NodeBuilder, size: Dim, **options: Any) -> SSAValue:
    """The last place stays, so that nothing is drawn for it."""
    stream, place = stream_of(c), c.iota(size)
    each = 2 if isinstance(size, int) and size >= LONG_ORDER else 1
    left = c.sub(c.dim(size), place)
    word = stream.joined_where(c, c.gt(left, 1), each)
    steps = c.cast(c.remainder(word, c.cast(left, dtypes.ui64)), dtypes.i64)
    return c.finished(c.b(ShuffleOp, steps))


@converts("multinomial")
def _multinomial(
    c: NodeBuilder, x: SSAValue, count: Dim, replacement: bool = False, **options: Any
) -> SSAValue:
    axis, x = rank_of(x) - 1, within(c, x, 0.0, sys.float_info.max)
    if replacement and count != 1:
        return with_replacement(c, x, count)
    noise = c.cast(_row_major(c, dims_of(x)), element_type(x))
    ratio = c.div(x, noise)
    if count == 1:
        return c.finished(c.argmax(ratio, axis))
    most = dims_of(x)[axis]
    if isinstance(most, int) and isinstance(count, int) and count > most:
        raise c.refuse(f"{count} samples of {most} classes without replacement")
    _, places = c.b.all(TopKOp, ratio, axis=axis, k=dims_attribute([count]))
    return c.finished(places)


def _row_major(c: NodeBuilder, dims: Sequence[Dim]) -> SSAValue:
    drawn = stream_of(c).uniform(c, dims, dtypes.f64)
    return c.neg(c.b(Log1pOp, c.neg(drawn)))


def with_replacement(c: NodeBuilder, x: SSAValue, count: Dim) -> SSAValue:
    """The class in whose part of the running sum a uniform number lies."""
    axis, dims = rank_of(x) - 1, dims_of(x)
    sums = c.b(CumSumOp, c.wide(x), axis=axis)
    total = c.slice(sums, axis, dims[axis] - 1, 1)
    share = c.cast(c.div(sums, total), dtypes.f64)
    last = c.eq(c.positions(x, axis), c.dim(dims[axis] - 1))
    share = c.where(last, c.like(1.0, share), share)
    drawn = stream_of(c).uniform(c, [*dims[:-1], count], dtypes.f64)
    return c.finished(c.b(SearchSortedOp, share, drawn))


# -- distributions by rejection: torch takes the elements in row-major order


@converts("poisson")
def _poisson(c: NodeBuilder, rate: SSAValue, generator: None = None) -> SSAValue:
    wide = c.cast(within(c, rate, 0.0, sys.float_info.max), dtypes.f64)
    return c.finished(stream_of(c).rejected(c, PoissonOp, wide))


@converts("binomial")
def _binomial(c: NodeBuilder, count: SSAValue, prob: SSAValue, generator: None = None) -> SSAValue:
    dims, wide = c.out_dims(), computed_in(c.out_element())
    counts = c.broadcast(within(c, count, 0.0, sys.float_info.max), dims)
    chances = c.broadcast(within(c, prob, 0.0, 1.0), dims)
    parameters = (c.cast(x, wide) for x in (counts, chances))
    return c.finished(stream_of(c).rejected(c, BinomialOp, *parameters))


@converts("_standard_gamma")
def _standard_gamma(c: NodeBuilder, shape: SSAValue, generator: None = None) -> SSAValue:
    return gamma(c, c.cast(shape, computed_in(element_type(shape))), c.meta().dtype)


def gamma(c: NodeBuilder, shape: SSAValue, to: torch.dtype) -> SSAValue:
    """Gamma numbers drawn in the shape's type, none less than the least normal one of `to`."""
    drawn = stream_of(c).rejected(c, StandardGammaOp, within(c, shape, 0.0, math.inf))
    return c.maximum(c.cast(drawn, element_of(to)), torch.finfo(to).tiny)


@converts("_sample_dirichlet")
def _sample_dirichlet(c: NodeBuilder, shape: SSAValue, generator: None = None) -> SSAValue:
    """Gamma numbers by their sum, in f64; strictly between 0 and 1, where NaN is least."""
    drawn = gamma(c, c.cast(shape, dtypes.f64), torch.float64)
    share = c.finished(c.div(drawn, c.sum(drawn, [rank_of(shape) - 1], keep=True)))
    limits = torch.finfo(c.meta().dtype)
    least = c.like(limits.tiny, share)
    return c.minimum(c.where(c.gt(share, least), share, least), 1 - limits.eps / 2)


# -- dropout


@converts("native_dropout")
def _native_dropout(c: NodeBuilder, x: SSAValue, p: float, train: bool | None = None) -> Any:
    if train is False:
        return x, c.full(True, dims_of(x), dtypes.i1)
    p = number(c, p, "the probability", least=0, most=1)
    mask = chosen(c, dims_of(x), 1.0 - p)
    noise = c.cast(mask, element_type(x))
    return c.mul(x, c.narrow(c.mul(c.wide(noise), 1 / (1 - p) if p < 1 else 0.0), x)), mask


def dropped(c: NodeBuilder, x: SSAValue, p: float) -> SSAValue:
    """Dropout, in training, of an intermediate result that torch keeps in row-major order."""
    p = number(c, p, "the probability of dropout", least=0, most=1)
    if p in (0, 1):
        return c.mul(x, 0.0) if p else x
    kept = c.lt(stream_of(c).uniform(c, dims_of(x), dtypes.f64), 1 - p)
    return scaled_up(c, x, kept, p)


def scaled_up(c: NodeBuilder, x: SSAValue, kept: SSAValue, p: float) -> SSAValue:
    """The kept elements by 1 / (1 - p), rounded in x's type; others by 0."""
    return c.mul(x, c.narrow(c.div(c.wide(c.cast(kept, element_type(x))), 1 - p), x))


@converts("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(c: NodeBuilder, x: SSAValue, p: float, train: bool) -> SSAValue:
    p = number(c, p, "the probability", least=0, most=1)
    if p == 0 or not train:
        return x
    if p == 1:
        return c.mul(x, 0.0)
    name, dims = str(c.node.target), dims_of(x)
    if "feature" in name:
        if len(dims) < 2:
            raise c.refuse("feature dropout needs a tensor of at least 2 axes")
        dims = (*dims[:2], *[1] * (len(dims) - 2))
    drawn = (
        chosen(c, dims, 1 - p)
        if "feature" not in name
        else c.lt(stream_of(c).uniform(c, dims, dtypes.f64), 1 - p)
    )
    if "alpha" not in name:
        return scaled_up(c, x, drawn, p)
    noise = c.cast(drawn, element_type(x))
    alpha = 1.7580993408473766
    a = 1 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    moved = c.narrow(c.mul(c.wide(c.add(noise, -1.0)), alpha * a), x)
    moved = c.narrow(c.add(c.wide(moved), alpha * a * p), x)
    return c.add(c.mul(x, c.narrow(c.mul(c.wide(noise), a), x)), moved)


@converts("rrelu_with_noise", "rrelu_with_noise_functional")
def _rrelu(
    c: NodeBuilder,
    x: SSAValue,
    noise: SSAValue,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    **options: Any,
) -> Any:
    """In training, a number is drawn for each element that is not positive."""
    functional = "functional" in str(c.node.target)
    below = c.le(x, c.like(0.0, x))
    if not training:
        slope = c.like((lower + upper) / 2, x)
        y = c.where(below, c.mul(x, slope), x)
        return (y, noise) if functional else y
    if element_type(x) != dtypes.f64:
        lower, upper = (float(torch.tensor(v, dtype=torch.float32)) for v in (lower, upper))
    words = stream_of(c).words_where(c, below, 2)
    drawn = c.cast_like(c.add(c.mul(unit(c, words), upper - lower), lower), x)
    slopes = c.where(below, drawn, c.like(1.0, x))
    y = c.where(below, c.mul(x, slopes), x)
    return (y, slopes) if functional else y
