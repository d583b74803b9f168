"""Random words: counted streams and generators whose state is a value of the program.

Distributions are made of these words by ordinary ops (`torsh_fx/importers/random.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, Float64Type, FloatAttr, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, prop_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, extents_of, float_of, int_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, provably_different
from torsh_dialect.errors import ExecutionError, ShapeError
from torsh_dialect.kinds import Random, Sort
from torsh_dialect.ops.movement import fixed
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor

PHILOX_STATE = 2
"""Words (ui64) of the state of a Philox stream: the key, and the number of the next block."""

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10

MT_WORDS, MT_MIDDLE = 624, 397
MT_STATE = MT_WORDS + 4
"""Words (ui32) of the state of a generator: the twister's; how many of them are used up; whether
a normal number is kept for the next draw; its bits as f64, upper word first."""

MT_MATRIX, MT_UPPER, MT_LOWER = 0x9908B0DF, 0x80000000, 0x7FFFFFFF
MT_TEMPERING = ((11, 0xFFFFFFFF, False), (7, 0x9D2C5680, True), (15, 0xEFC60000, True),
                (18, 0xFFFFFFFF, False))  # fmt: skip
"""Shift, mask, and whether to the left, of each step of the tempering."""

MASK = 0xFFFFFFFF


def has_type(value: SSAValue, element: object, dims: tuple[Dim, ...]) -> bool:
    """Whether a value may have this element type and these extents."""
    given = dims_of(value)
    fits = len(given) == len(dims) and not any(map(provably_different, given, dims))
    return element_type(value) == element and fits


def philox_block(counter: Sequence[Any], key: tuple[Any, Any]) -> list[Any]:
    """The four words of Philox4x32-10 for counters of four words (uint64 arrays below 2**32)."""
    words, (k0, k1) = [np.asarray(word, np.uint64) for word in counter], map(int, key)
    low, half = np.uint64(MASK), np.uint64(32)
    for _ in range(PHILOX_ROUNDS):
        a, b = (words[0] * np.uint64(PHILOX_MULTIPLIERS[0]),
                words[2] * np.uint64(PHILOX_MULTIPLIERS[1]))  # fmt: skip
        words = [
            (b >> half) ^ words[1] ^ np.uint64(k0),
            b & low,
            (a >> half) ^ words[3] ^ np.uint64(k1),
            a & low,
        ]
        k0, k1 = (k0 + PHILOX_WEYL[0]) & MASK, (k1 + PHILOX_WEYL[1]) & MASK
    return words


@op
class PhiloxOp(Random):
    """Word `word` (0 to 3) of as many blocks of a Philox stream as the result has elements.

    Element i, counted row-major, is of block `state[1] + skip + i` (mod 2**64), whose number is
    the counter's lower half; `state[0]` is the key. J. Salmon, M. Moraes, R. Dror, D. Shaw,
    "Parallel random numbers: as easy as 1, 2, 3" (2011): Philox4x32-10.

    C1: `state` is tensor<2xui64>. C2: `word` is 0, 1, 2 or 3.

    %r = torsh.philox %s {skip = #torsh.dims<[0]>, target = #torsh.dims<[2, 3]>, word = 0 : i64} : (tensor<2xui64>) -> tensor<2x3xui32>
    """  # noqa: E501

    name = "torsh.philox"
    state = operand_def()
    skip = prop_def(DimsAttr)
    target = prop_def(DimsAttr)
    word = prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if not has_type(self.state, dtypes.ui64, (PHILOX_STATE,)):
            raise ShapeError(f"the state is tensor<2xui64>, not {self.state.type} (C1)")
        if not 0 <= int_of(self.word) < 4:
            raise ShapeError(f"a block has the words 0 to 3, not {int_of(self.word)} (C2)")
        return (tensor(dtypes.ui32, extents_of(self.target)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        key, start = (int(v) for v in args[0])
        shape, (skip,) = fixed(self.target), fixed(self.skip)
        count = int(np.prod(shape, dtype=np.int64))
        first = np.uint64((start + skip) % 2**64)
        number = np.arange(count, dtype=np.uint64) + first
        zero = np.zeros_like(number)
        counter = (number & np.uint64(MASK), number >> np.uint64(32), zero, zero)
        words = philox_block(counter, (key & MASK, key >> 32))
        return (words[int_of(self.word)].astype(np.uint32).reshape(shape),)


@op
class Mt19937Op(Random):
    """The next `count` words of a Mersenne twister, zeros behind them, and its state after them.

    M. Matsumoto, T. Nishimura, "Mersenne Twister" (1998): MT19937 with 32 bits, as numpy's
    `RandomState` and torch's generator on the CPU draw it. A count below 0 or above the
    result's extent is read as that limit.

    C1: `state` is tensor<628xui32>: 624 words, the number of used ones, and three that stay.
    C2: `count` is tensor<i64>. C3: `target` has one extent.

    %w, %t = torsh.mt19937 %s, %n {target = #torsh.dims<[4]>} : (tensor<628xui32>, tensor<i64>) -> (tensor<4xui32>, tensor<628xui32>)
    """  # noqa: E501

    name = "torsh.mt19937"
    state = operand_def()
    count = operand_def()
    target = prop_def(DimsAttr)
    words = result_def()
    after = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if not has_type(self.state, dtypes.ui32, (MT_STATE,)):
            raise ShapeError(f"the state is tensor<{MT_STATE}xui32>, not {self.state.type} (C1)")
        if not has_type(self.count, dtypes.i64, ()):
            raise ShapeError(f"the count is tensor<i64>, not {self.count.type} (C2)")
        dims = extents_of(self.target)
        if len(dims) != 1:
            raise ShapeError(f"words have one extent, not {list(dims)} (C3)")
        return tensor(dtypes.ui32, dims), tensor(dtypes.ui32, (MT_STATE,))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        state, (room,) = args[0], fixed(self.target)
        count = min(max(int(args[1]), 0), room)
        generator = np.random.RandomState()
        key: Any = state[:MT_WORDS]
        generator.set_state(("MT19937", key, min(int(state[MT_WORDS]), MT_WORDS), 0, 0.0))
        words = np.zeros(room, np.uint32)
        if count:  # numpy draws a word for no bytes
            words[:count] = np.frombuffer(generator.bytes(4 * count), "<u4")
        left: Any = generator.get_state(legacy=False)["state"]
        after = [left["key"], [left["pos"]], state[MT_WORDS + 1 :]]
        return words, np.concatenate(after).astype(np.uint32)


@op
class WithinOp(Random):
    """The elements of x, which must lie from `low` to `high`; another one (or NaN) ends the call.

    For parameters of distributions, which are known when the program runs. C1: x is of floats or
    integers, which are compared as f64.

    %r = torsh.within %x {high = 1.0 : f64, low = 0.0 : f64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.within"
    x = operand_def()
    low = prop_def(FloatAttr[Float64Type])
    high = prop_def(FloatAttr[Float64Type])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        element = element_type(self.x)
        if not (dtypes.is_float(element) or dtypes.is_integer(element)):
            raise ShapeError(f"limits are of floats or integers, not of {self.x.type} (C1)")
        return (tensor(element_type(self.x), dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        wide, (low, high) = args[0].astype(np.float64), map(float_of, (self.low, self.high))
        bad = np.flatnonzero(~((wide >= low) & (wide <= high)))
        if bad.size:
            raise ExecutionError(
                f"element {bad[0]} of the parameters is {wide.flat[bad[0]]}, not in [{low}, {high}]"
            )
        return (args[0],)


@op
class ShuffleOp(Sort):
    """0 to n - 1 in the order that n exchanges make: place i with place `i + x[i]`, i rising.

    The shuffle of R. Durstenfeld (1964) where x[i] is uniform in [0, n - i). A place past the
    end is read as the last one.

    C1: x is a vector of i64.

    %r = torsh.shuffle %x : (tensor<5xi64>) -> tensor<5xi64>
    """

    name = "torsh.shuffle"
    x = operand_def()
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if element_type(self.x) != dtypes.i64 or rank_of(self.x) != 1:
            raise ShapeError(f"exchanges are a vector of i64, not {self.x.type} (C1)")
        return (tensor(dtypes.i64, dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        count = len(args[0])
        order = list(range(count))
        for here, step in enumerate(args[0].tolist()):
            there = min(here + step, count - 1)
            order[here], order[there] = order[there], order[here]
        return (np.array(order, np.int64).reshape(count),)
