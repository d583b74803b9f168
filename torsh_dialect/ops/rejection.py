"""Distributions by rejection: how many words an element takes depends on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

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

Uniform = Callable[[], float]

STIRLING = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509,
    0.0166446911898211, 0.0138761288230707, 0.0118967099458917, 0.0104112652619720,
    0.00925546218271273, 0.00833056343336287,
)  # fmt: skip
"""log k! less Stirling's approximation, for k from 0 to 9."""


class Rejecting(Random):
    """One number (f64) for each element of parameters (f64), and the state behind them.

    Of a Philox state (tensor<2xui64>), draw j of element i is block (state[1] + i, j), of which
    two words make a number; of a twister's (tensor<628xui32>), draws follow one another.
    """

    y = result_def()
    after = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        state, *parameters = self.operands
        forms = ((dtypes.ui64, (PHILOX_STATE,)), (dtypes.ui32, (MT_STATE,)))
        form = next((one for one in forms if has_type(state, *one)), None)
        if form is None:
            raise ShapeError(f"{state.type} is the state of no stream (C1)")
        if any(element_type(p) != dtypes.f64 or p.type != parameters[0].type for p in parameters):
            raise ShapeError("the parameters are f64 of equal extents (C2)")
        return tensor(dtypes.f64, dims_of(parameters[0])), tensor(*form)

    def sample(self, uniform: Uniform, *parameters: float) -> float:
        """A number, from as many uniform ones as it takes."""
        raise NotImplementedError

    def evaluate(self, *args: Array) -> Sequence[Array]:
        state, *parameters = args
        rows = list(zip(*(p.reshape(-1).tolist() for p in parameters), strict=True))
        draw = self._philox if state.dtype == np.uint64 else self._twister
        values, after = draw(state, rows)
        return np.array(values, np.float64).reshape(parameters[0].shape), after

    def _philox(self, state: Array, rows: Sequence[Any]) -> tuple[list[float], Array]:
        key, start = (int(word) for word in state)
        values = list[float]()
        for number, row in enumerate(rows):
            place, draws = (start + number) % 2**64, iter(range(2**32))

            def uniform(place: int = place, draws: Any = draws) -> float:
                counter = (place & MASK, place >> 32, next(draws), 0)
                first, second, *_ = philox_block(counter, (key & MASK, key >> 32))
                return ((int(first) << 32 | int(second)) & (2**53 - 1)) * 2.0**-53

            values.append(self.sample(uniform, *row))
        return values, np.array([key, (start + len(rows)) % 2**64], np.uint64)

    def _twister(self, state: Array, rows: Sequence[Any]) -> tuple[list[float], Array]:
        generator, key = np.random.RandomState(), state[:MT_WORDS]
        place: Any = (key, min(int(state[MT_WORDS]), MT_WORDS))
        generator.set_state(("MT19937", *place, 0, 0.0))

        def uniform() -> float:
            first, second = np.frombuffer(generator.bytes(8), "<u4").tolist()
            return ((first << 32 | second) & (2**53 - 1)) * 2.0**-53

        values = [self.sample(uniform, *row) for row in rows]
        left: Any = generator.get_state(legacy=False)["state"]
        after = np.concatenate([left["key"], [left["pos"]], state[MT_WORDS + 1 :]])
        return values, after.astype(np.uint32)


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

    def sample(self, uniform: Uniform, *parameters: float) -> float:
        (rate,) = parameters
        if not rate > 0:
            return 0.0
        if rate >= 10:
            return _hoermann_poisson(rate, uniform)
        count, product, limit = 0, uniform(), math.exp(-rate)
        while product > limit:
            count, product = count + 1, product * uniform()
        return float(count)


def _hoermann_poisson(rate: float, uniform: Uniform) -> float:
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

    C1: `state` is that of a stream. C2: `count` and `chance` are f64 of equal extents.

    %y, %t = torsh.binomial %s, %n, %p : (tensor<2xui64>, tensor<3xf64>, tensor<3xf64>) -> (tensor<3xf64>, tensor<2xui64>)
    """  # noqa: E501

    name = "torsh.binomial"
    state = operand_def()
    count = operand_def()
    chance = operand_def()

    def sample(self, uniform: Uniform, *parameters: float) -> float:
        count, chance = parameters
        if not (count > 0 and chance > 0):
            return 0.0
        if chance >= 1:
            return count
        rare = min(chance, 1.0 - chance)
        draw = _hoermann_binomial if count * rare >= 10 else _by_gaps
        found = draw(count, rare, uniform)
        return found if chance <= 0.5 else count - found


def _by_gaps(count: float, chance: float, uniform: Uniform) -> float:
    total, found, scale = 0.0, -1.0, math.log1p(-chance)
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


def _hoermann_binomial(count: float, chance: float, uniform: Uniform) -> float:
    spread = math.sqrt(count * chance * (1 - chance))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * chance
    odds, alpha = chance / (1 - chance), (2.83 + 5.1 / b) * spread
    mode = math.floor((count + 1) * chance)
    while True:
        u, v = uniform() - 0.5, uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + count * chance + 0.5) if us else -1
        if k < 0 or k > count:
            continue
        if (us >= 0.07 and v <= 0.92 - 4.2 / b) or v == 0:
            return float(k)
        limit = (
            (mode + 0.5) * math.log((mode + 1) / (odds * (count - mode + 1)))
            + (count + 1) * math.log((count - mode + 1) / (count - k + 1))
            + (k + 0.5) * math.log(odds * (count - k + 1) / (k + 1))
            + _stirling(mode) + _stirling(count - mode) - _stirling(k) - _stirling(count - k)
        )  # fmt: skip
        if math.log(v * alpha / (a / (us * us) + b)) <= limit:
            return float(k)
