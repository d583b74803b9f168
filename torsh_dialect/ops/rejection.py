"""Distributions by rejection: how many words an element takes depends on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from xdsl.irdl import operand_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.declare import op
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Random
from torsh_dialect.ops.random import (
    MASK,
    MT_STATE,
    MT_WORDS,
    PHILOX_STATE,
    has_type,
    philox_block,
)
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor

STIRLING = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509,
    0.0166446911898211, 0.0138761288230707, 0.0118967099458917, 0.0104112652619720,
    0.00925546218271273, 0.00833056343336287,
)  # fmt: skip
"""log k! less Stirling's approximation, for k from 0 to 9."""


class Source(Protocol):
    """Where numbers come from, in f64."""

    def uniform(self) -> float:
        """A number in [0, 1) with 53 bits."""
        ...

    def normal(self) -> float:
        """A standard normal number."""
        ...


def _unit(first: int, second: int) -> float:
    return ((first << 32 | second) & (2**53 - 1)) * 2.0**-53


def _pair(turn: float, size: float) -> tuple[float, float]:
    """Two normal numbers of two uniform ones: G. Box, M. Muller (1958)."""
    radius, angle = math.sqrt(-2 * math.log1p(-size)), 2 * math.pi * turn
    return radius * math.cos(angle), radius * math.sin(angle)


@dataclass
class Blocks:
    """Philox blocks of one element: each number is of the next one."""

    key: int
    place: int
    draws: Iterator[int] = field(default_factory=count)

    def _block(self) -> list[int]:
        counter = (self.place & MASK, self.place >> 32, next(self.draws), 0)
        return [int(word) for word in philox_block(counter, (self.key & MASK, self.key >> 32))]

    def uniform(self) -> float:
        """Of the first two words."""
        first, second, *_ = self._block()
        return _unit(first, second)

    def normal(self) -> float:
        """Of all four words, the size before the angle."""
        words = self._block()
        return _pair(_unit(*words[2:]), _unit(*words[:2]))[0]


class Words:
    """The words of a twister; of a pair of normal numbers the second is kept for the next draw."""

    def __init__(self, state: Array):
        used: Any = min(int(state[MT_WORDS]), MT_WORDS)
        key: Any = state[:MT_WORDS]
        self.generator = np.random.RandomState()
        self.generator.set_state(("MT19937", key, used, 0, 0.0))
        flag, upper, lower = (int(word) for word in state[MT_WORDS + 1 :])
        bits = np.uint64(upper << 32 | lower)
        self.kept = float(bits.view(np.float64)) if flag else None

    def uniform(self) -> float:
        """Of two words."""
        first, second = np.frombuffer(self.generator.bytes(8), "<u4").tolist()
        return _unit(first, second)

    def normal(self) -> float:
        """The kept number, or of four words: the angle before the size."""
        if self.kept is not None:
            number, self.kept = self.kept, None
            return number
        turn, size = self.uniform(), self.uniform()
        number, self.kept = _pair(turn, size)
        return number

    def state(self) -> Array:
        """The state behind all draws."""
        left: Any = self.generator.get_state(legacy=False)["state"]
        bits = 0 if self.kept is None else int(np.float64(self.kept).view(np.uint64))
        end = [left["pos"], self.kept is not None, bits >> 32, bits & MASK]
        return np.concatenate([left["key"], end]).astype(np.uint32)


class Rejecting(Random):
    """One number for each element of parameters, of their type, and the state behind them.

    Of a Philox state (tensor<2xui64>), draw j of element i is block (state[1] + i, j), of which
    two words make a uniform number and four a normal one; of a twister's (tensor<628xui32>),
    draws follow one another. Numbers are drawn in f64, whatever the parameters are.
    """

    y = result_def()
    after = result_def()
    ELEMENTS: ClassVar = (dtypes.f32, dtypes.f64)
    """The types that parameters may have."""

    def infer(self) -> Sequence[AnyTensor]:
        state, *parameters = self.operands
        forms = ((dtypes.ui64, (PHILOX_STATE,)), (dtypes.ui32, (MT_STATE,)))
        form = next((one for one in forms if has_type(state, *one)), None)
        if form is None:
            raise ShapeError(f"{state.type} is the state of no stream (C1)")
        element = element_type(parameters[0])
        if element not in self.ELEMENTS or any(p.type != parameters[0].type for p in parameters):
            names = " or ".join(dtypes.dtype_of(e).name for e in self.ELEMENTS)
            raise ShapeError(f"the parameters are {names} of equal extents (C2)")
        return tensor(element, dims_of(parameters[0])), tensor(*form)

    def sample(self, source: Source, *parameters: Any) -> float:
        """A number, from as many draws as it takes; parameters are numpy's scalars."""
        raise NotImplementedError

    def evaluate(self, *args: Array) -> Sequence[Array]:
        state, *parameters = args
        rows = list(zip(*(p.reshape(-1) for p in parameters), strict=True))
        if state.dtype == np.uint64:
            key, start = (int(word) for word in state)
            values = [
                self.sample(Blocks(key, (start + number) % 2**64), *row)
                for number, row in enumerate(rows)
            ]
            after = np.array([key, (start + len(rows)) % 2**64], np.uint64)
        else:
            source = Words(state)
            values = [self.sample(source, *row) for row in rows]
            after = source.state()
        return np.array(values, parameters[0].dtype).reshape(parameters[0].shape), after


@op
class PoissonOp(Rejecting):
    """Poisson-distributed numbers; 0 for a rate that is not above 0.

    Below a rate of 10 by the product of uniform numbers (D. Knuth, The Art of Computer
    Programming 2), else by transformed rejection: W. Hoermann, "The transformed rejection method
    for generating Poisson random variables" (1993), PTRS. Steps and draws are those of
    aten/native/cpu/DistributionKernels.cpp of torch.

    C1: `state` is that of a stream. C2: `rate` is f64.

    %y, %t = torsh.poisson %s, %r : (tensor<2xui64>, tensor<3xf64>) -> (tensor<3xf64>, tensor<2xui64>)
    """  # noqa: E501

    name = "torsh.poisson"
    state = operand_def()
    rate = operand_def()
    ELEMENTS: ClassVar = (dtypes.f64,)

    def sample(self, source: Source, *parameters: Any) -> float:
        rate = float(parameters[0])
        if not rate > 0:
            return 0.0
        if rate >= 10:
            return _hoermann_poisson(rate, source.uniform)
        count, product, limit = 0, source.uniform(), math.exp(-rate)
        while product > limit:
            count, product = count + 1, product * source.uniform()
        return float(count)


def _hoermann_poisson(rate: float, uniform: Callable[[], float]) -> float:
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    scale, least = math.log(1.1239 + 1.1328 / (b - 3.4)), 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = uniform() - 0.5, uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + rate + 0.43) if us else -1
        if us >= 0.07 and v <= least:
            return float(k)
        if k < 0 or v == 0 or (us < 0.013 and v > us):
            continue
        size = math.log(v) + scale - math.log(a / (us * us) + b)
        if size <= -rate + k * math.log(rate) - math.lgamma(k + 1):
            return float(k)


@op
class BinomialOp(Rejecting):
    """How many of `count` trials succeed with probability `chance`; 0 where either is not above 0.

    Below 10 expected numbers of the rarer outcome by sums of geometric numbers, else by
    transformed rejection: W. Hoermann, "The generation of binomial random variates" (1993), BTRS.
    Steps and draws are those of aten/native/Distributions.h of torch.

    Products, sums and differences of the parameters are rounded to their type, as torch does.

    C1: `state` is that of a stream. C2: `count` and `chance` are f32 or f64 of equal extents.

    %y, %t = torsh.binomial %s, %n, %p : (tensor<2xui64>, tensor<3xf64>, tensor<3xf64>) -> (tensor<3xf64>, tensor<2xui64>)
    """  # noqa: E501

    name = "torsh.binomial"
    state = operand_def()
    count = operand_def()
    chance = operand_def()

    def sample(self, source: Source, *parameters: Any) -> float:
        count, chance = parameters
        one = type(count)(1)
        if not (count > 0 and chance > 0):
            return 0.0
        if chance >= 1:
            return float(count)
        rare = min(chance, one - chance)
        draw = _hoermann_binomial if count * rare >= 10 else _by_gaps
        found = draw(count, rare, source.uniform)
        return found if chance <= 0.5 else float(count) - found


def _by_gaps(count: Any, chance: Any, uniform: Callable[[], float]) -> float:
    total, found, scale = 0.0, -1.0, float(type(chance)(math.log1p(-chance)))
    while total <= count:
        u = uniform()
        total += math.ceil(math.log(u) / scale) if u else math.inf
        found += 1
    return found


def _stirling(k: float) -> float:
    if k < len(STIRLING):
        return STIRLING[int(k)]
    square = (k + 1) * (k + 1)
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)


def _hoermann_binomial(count: Any, chance: Any, uniform: Callable[[], float]) -> float:
    kind = cast("Callable[[float], Any]", type(count))
    one, n = kind(1), float(count)
    spread = float(np.sqrt(count * chance * (one - chance)))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * float(chance)
    centre = float(count * chance) + 0.5
    odds, alpha = float(chance / (one - chance)), (2.83 + 5.1 / b) * spread
    mode = math.floor((count + one) * chance)
    while True:
        u, v = uniform() - 0.5, uniform()
        us = 0.5 - abs(u)
        k = kind(math.floor((2 * a / us + b) * u + centre)) if us else kind(-1)
        if k < 0 or k > count:
            continue
        if (us >= 0.07 and v <= 0.92 - 4.2 / b) or v == 0:
            return float(k)
        left, following = float(count - k + one), float(k + one)
        limit = (
            (mode + 0.5) * math.log((mode + 1) / (odds * (n - mode + 1)))
            + float(count + one) * math.log((n - mode + 1) / left)
            + (float(k) + 0.5) * math.log(odds * left / following)
            + _stirling(mode) + _stirling(n - mode)
            - _stirling(float(k)) - _stirling(float(count - k))
        )  # fmt: skip
        if math.log(v * alpha / (a / (us * us) + b)) <= limit:
            return float(k)


THIRD, SQUEEZE = float(np.float32(1) / np.float32(3)), float(np.float32(0.0331))
"""1/3 and the factor of the squeeze step, in f32 as torch has them in any type."""


@op
class StandardGammaOp(Rejecting):
    """Gamma-distributed numbers of scale 1; 0 for a shape that is not above 0.

    G. Marsaglia, W. Tsang, "A simple method for generating gamma variables" (2000); for a shape
    below 1 that of shape + 1 times a uniform number to the power of 1 / shape. Steps and draws
    are those of aten/native/Distributions.h of torch.

    C1: `state` is that of a stream. C2: `shape` is f32 or f64, in which its own terms are rounded.

    %y, %t = torsh.standard_gamma %s, %a : (tensor<2xui64>, tensor<3xf64>) -> (tensor<3xf64>, tensor<2xui64>)
    """  # noqa: E501

    name = "torsh.standard_gamma"
    state = operand_def()
    shape = operand_def()

    def sample(self, source: Source, *parameters: Any) -> float:
        (shape,) = parameters
        kind = cast("Callable[[float], Any]", type(shape))
        scale = 1.0
        if not shape > 0:
            return 0.0
        if shape < 1:
            scale = math.pow(1 - source.uniform(), float(kind(1) / shape))
            shape = shape + kind(1)
        d = float(shape - kind(THIRD))
        c = 1 / math.sqrt(9 * d)
        while True:
            x = source.normal()
            while 1 + c * x <= 0:
                x = source.normal()
            base = 1 + c * x
            v = base * base * base
            u, square = 1 - source.uniform(), x * x
            if u < 1 - SQUEEZE * square * square or math.log(u) < 0.5 * square + d * (
                1 - v + math.log(v)
            ):
                return scale * d * v
