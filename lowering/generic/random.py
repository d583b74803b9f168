"""Random numbers by element: numpy's Philox stream, number i from words i (or 2i and 2i + 1).

J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011),
Philox4x64-10; the key from a seed as numpy's SeedSequence makes it. The counter of a block of four
words is its number plus one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import Evaluator, result_element, rule
from lowering.kern import dialect as kern
from lowering.kern.builder import Index, KernBuilder
from torsh_dialect import dtypes
from torsh_dialect.ops.random import RandomNormalOp, RandomUniformOp
from torsh_dialect.types import dims_of

U64 = dtypes.ui64
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
MASK = (1 << 64) - 1

Words = tuple[SSAValue, SSAValue, SSAValue, SSAValue]


class Philox:
    """Builds Philox4x64-10 with a key that is known, or made when the kernel starts."""

    def __init__(self, b: KernBuilder, seed: int | None):
        self.b = b
        self.key = self._clock() if seed is None else self._key(seed)

    def const(self, value: int) -> SSAValue:
        signed = value - (1 << 64) if value >= 1 << 63 else value
        return self.b.bitcast(self.b.const(signed, dtypes.i64), U64)

    def _key(self, seed: int) -> tuple[SSAValue, SSAValue]:
        first, second = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        return self.const(int(first)), self.const(int(second))

    def _clock(self) -> tuple[SSAValue, SSAValue]:
        """A key from the processor's clock: another one in every run."""
        now = self.b.first(kern.ClockOp, U64)
        return now, self.b.mul(now, self.const(MULTIPLIERS[0]))

    def word(self, number: SSAValue) -> SSAValue:
        """Word `number` (ui64) of the stream."""
        b, zero = self.b, self.const(0)
        block = b.shr(number, self.const(2))
        words: Words = (b.add(block, self.const(1)), zero, zero, zero)
        for step in range(ROUNDS):
            words = self._round(words, step)
        place = b.and_(number, self.const(3))
        result = words[3]
        for n in (2, 1, 0):
            result = b.select(b.eq(place, self.const(n)), words[n], result)
        return result

    def _round(self, words: Words, step: int) -> Words:
        b = self.b
        keys = [
            b.add(key, self.const(step * weyl & MASK))
            for key, weyl in zip(self.key, WEYL, strict=True)
        ]
        high0, low0 = self._product(MULTIPLIERS[0], words[0])
        high1, low1 = self._product(MULTIPLIERS[1], words[2])
        first = b.xor(b.xor(high1, words[1]), keys[0])
        third = b.xor(b.xor(high0, words[3]), keys[1])
        return first, low1, third, low0

    def _product(self, constant: int, x: SSAValue) -> tuple[SSAValue, SSAValue]:
        """The upper and the lower word of a product, from products of halves."""
        b, half, low = self.b, self.const(32), self.const((1 << 32) - 1)
        a1, a0 = self.const(constant >> 32), self.const(constant & ((1 << 32) - 1))
        x1, x0 = b.shr(x, half), b.and_(x, low)
        cross = b.add(b.mul(a0, x1), b.shr(b.mul(a0, x0), half))
        other = b.add(b.mul(a1, x0), b.and_(cross, low))
        high = b.add(b.add(b.mul(a1, x1), b.shr(cross, half)), b.shr(other, half))
        return high, b.mul(self.const(constant), x)

    def uniform(self, number: SSAValue) -> SSAValue:
        """A number in [0, 1) with 53 bits (f64), from a word of the stream."""
        b = self.b
        bits = b.cast(b.shr(self.word(number), self.const(11)), dtypes.f64)
        return b.mul(bits, b.const(2.0**-53, dtypes.f64))


def _position(e: Evaluator, op: Operation, index: Sequence[Index]) -> SSAValue:
    flat = e.builder.index(e.flat(dims_of(op.results[0]), index))
    return e.builder.cast(e.builder.cast(flat, dtypes.i64), U64)


def _seed(op: RandomUniformOp | RandomNormalOp) -> int | None:
    return None if op.seed is None else op.seed.value.data


@rule(RandomUniformOp)
def random_uniform(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Scaled to [low, high) in f64."""
    assert isinstance(op, RandomUniformOp)
    b = e.builder
    low, high = op.low.value.data, op.high.value.data
    drawn = Philox(b, _seed(op)).uniform(_position(e, op, index))
    scaled = b.mul(drawn, b.const(high - low, dtypes.f64))
    return b.cast(b.add(scaled, b.const(low, dtypes.f64)), result_element(op))


@rule(RandomNormalOp)
def random_normal(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """By Box and Muller's method, from two words for each number."""
    assert isinstance(op, RandomNormalOp)
    b, philox = e.builder, Philox(e.builder, _seed(op))
    first = b.mul(_position(e, op, index), philox.const(2))
    one = b.const(1.0, dtypes.f64)
    size = b.math("log", b.sub(one, philox.uniform(first)))
    radius = b.sqrt(b.mul(size, b.const(-2.0, dtypes.f64)))
    turn = philox.uniform(b.add(first, philox.const(1)))
    drawn = b.mul(radius, b.math("cos", b.mul(turn, b.const(2 * math.pi, dtypes.f64))))
    scaled = b.mul(drawn, b.const(op.scale.value.data, dtypes.f64))
    return b.cast(b.add(scaled, b.const(op.mean.value.data, dtypes.f64)), result_element(op))
