"""Random words: a Philox stream by element, a Mersenne twister and a shuffle as one unit each."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import Evaluator, rule
from lowering.generic.kernels import whole_kernel
from lowering.generic.whole import WholeKernelBuilder
from lowering.kern.builder import Index, KernBuilder
from lowering.kernel import Kernel
from lowering.program.checks import Checks
from torsh_dialect import dtypes
from torsh_dialect.attributes import float_of, int_of
from torsh_dialect.dims import product
from torsh_dialect.ops.random import (
    MASK,
    MT_LOWER,
    MT_MATRIX,
    MT_MIDDLE,
    MT_STATE,
    MT_TEMPERING,
    MT_UPPER,
    MT_WORDS,
    PHILOX_MULTIPLIERS,
    PHILOX_ROUNDS,
    PHILOX_WEYL,
    Mt19937Op,
    PhiloxOp,
    ShuffleOp,
    WithinOp,
)
from torsh_dialect.types import dims_of

U32, U64 = dtypes.ui32, dtypes.ui64

Words = tuple[SSAValue, SSAValue, SSAValue, SSAValue]


class Philox:
    """Builds Philox4x32-10. Words are ui64 below 2**32, so that a product is one multiplication."""

    def __init__(self, b: KernBuilder, key: SSAValue):
        self.b = b
        self.mask, self.half = self._const(MASK), self._const(32)
        self.key = self._halves(key)

    def _const(self, value: int) -> SSAValue:
        return self.b.const(value, U64)

    def _halves(self, word: SSAValue) -> tuple[SSAValue, SSAValue]:
        return self.b.and_(word, self.mask), self.b.shr(word, self.half)

    def block(self, number: SSAValue, upper: SSAValue | None = None) -> Words:
        """The four words of block `number` (ui64); `upper` is the counter's upper half (0)."""
        other = self._const(0) if upper is None else upper
        words: Words = (*self._halves(number), *self._halves(other))
        for step in range(PHILOX_ROUNDS):
            words = self._round(words, step)
        return words

    def _round(self, words: Words, step: int) -> Words:
        b = self.b
        k0, k1 = (
            b.and_(b.add(key, self._const(step * weyl & MASK)), self.mask)
            for key, weyl in zip(self.key, PHILOX_WEYL, strict=True)
        )
        low0, high0 = self._halves(b.mul(words[0], self._const(PHILOX_MULTIPLIERS[0])))
        low1, high1 = self._halves(b.mul(words[2], self._const(PHILOX_MULTIPLIERS[1])))
        return b.xor(b.xor(high1, words[1]), k0), low1, b.xor(b.xor(high0, words[3]), k1), low0


@rule(PhiloxOp)
def philox(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The block is the element's own; ops that take other words of it share its rounds."""
    assert isinstance(op, PhiloxOp)
    b, (skip,) = e.builder, op.skip.data
    flat = b.index(e.flat(e.dims(op.y), index))

    def unsigned(i: Index) -> SSAValue:
        return b.cast(b.cast(b.index(i), dtypes.i64), U64)

    start = b.add(e.element(op.state, [1]), unsigned(b.dim(skip)))
    words = Philox(b, e.element(op.state, [0])).block(b.add(start, unsigned(flat)))
    return b.cast(words[int_of(op.word)], U32)


@rule(WithinOp)
def within(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The check tells the element by its place."""
    assert isinstance(op, WithinOp)
    b, x = e.builder, e.element(op.x, index, where)
    if e.record is not None:
        wide = b.cast(x, dtypes.f64)
        low, high = (b.const(float_of(v), dtypes.f64) for v in (op.low, op.high))
        inside = b.and_(b.ge(wide, low), b.le(wide, high))
        inside = inside if where is None else b.or_(inside, b.not_(where))
        b.check(e.record, inside, e.flat(e.dims(op.x), index), 0, Checks.PARAMETER)
    return x


class Twister:
    """Builds MT19937 over a buffer of its state."""

    def __init__(self, b: KernBuilder, state: SSAValue):
        self.b, self.state = b, state

    def _const(self, value: int) -> SSAValue:
        return self.b.const(value, U32)

    def renew(self) -> None:
        """Make the next 624 words of the state."""
        self._twist(0, MT_WORDS - MT_MIDDLE, MT_MIDDLE)
        self._twist(MT_WORDS - MT_MIDDLE, MT_WORDS - 1, MT_MIDDLE - MT_WORDS)
        self._one(MT_WORDS - 1, 0, MT_MIDDLE - 1)

    def _twist(self, first: int, behind: int, distance: int) -> None:
        b = self.b
        b.each(
            first,
            behind,
            lambda i: self._one(i, b.add_index(i, 1), b.add_index(i, distance)),
        )

    def _one(self, place: Index, following: Index, other: Index) -> None:
        b, zero = self.b, self._const(0)
        upper = b.and_(b.load_now(self.state, place), self._const(MT_UPPER))
        lower = b.load_now(self.state, following)
        mixed = b.or_(upper, b.and_(lower, self._const(MT_LOWER)))
        odd = b.ne(b.and_(lower, self._const(1)), zero)
        twisted = b.xor(b.shr(mixed, self._const(1)), b.select(odd, self._const(MT_MATRIX), zero))
        b.store(b.xor(b.load_now(self.state, other), twisted), self.state, place)

    def tempered(self, place: Index) -> SSAValue:
        """The word that a word of the state gives."""
        b = self.b
        word = b.load_now(self.state, place)
        for shift, mask, left in MT_TEMPERING:
            by = self._const(shift)
            moved = b.shl(word, by) if left else b.shr(word, by)
            word = b.xor(word, b.and_(moved, self._const(mask)))
        return word


@whole_kernel(Mt19937Op)
def mt19937(op: Operation) -> Kernel:
    """Renew the state whenever its words are used up; what is between is one run of lanes."""
    assert isinstance(op, Mt19937Op)
    k = WholeKernelBuilder(op)
    b, (words, state) = k.b, k.targets
    twister, (room,) = Twister(b, state), dims_of(op.words)

    def copy(i: SSAValue) -> None:
        b.store(b.load(k.sources[0], i), state, i)

    def run(_: SSAValue) -> None:
        b.each(0, MT_STATE, copy)
        asked = b.cast(b.load(k.sources[1], 0), b.index_type)
        count = b.min_index(b.max_index(asked, 0), b.dim(room))
        used = b.cast(b.cast(b.load_now(state, MT_WORDS), dtypes.i64), b.index_type)
        last = _draw(b, twister, words, count, b.min_index(used, MT_WORDS))
        b.store(b.cast(b.cast(last, dtypes.i64), U32), state, MT_WORDS)
        b.each(count, b.dim(room), lambda i: b.store(b.const(0, U32), words, i))

    b.each(k.lo, k.hi, run)
    return k.finish(1, 1)


def _draw(b: KernBuilder, twister: Twister, words: SSAValue, count: Index, used: Index) -> SSAValue:
    """Write `count` words; the number of the state's words that are used then."""

    def more(done: SSAValue, used: SSAValue) -> SSAValue:
        return b.compare_index("lt", done, count)

    def renewed() -> Sequence[SSAValue]:
        twister.renew()
        return ()

    def step(done: SSAValue, used: SSAValue) -> Sequence[SSAValue]:
        empty = b.compare_index("ge", used, MT_WORDS)
        b.if_(empty, renewed)
        first = b.select_index(empty, 0, used)
        size = b.min_index(b.sub_index(MT_WORDS, first), b.sub_index(count, done))
        b.lanes(
            0,
            size,
            lambda i: b.store(twister.tempered(b.add_index(first, i)), words, b.add_index(done, i)),
        )
        return [b.index(b.add_index(done, size)), b.index(b.add_index(first, size))]

    return b.while_([b.index(0), b.index(used)], more, step)[1]


@whole_kernel(ShuffleOp)
def shuffle(op: Operation) -> Kernel:
    """One unit: each exchange needs the ones before it."""
    assert isinstance(op, ShuffleOp)
    k = WholeKernelBuilder(op)
    b, (order,) = k.b, k.targets
    count = b.dim(product(dims_of(op.x)))

    def exchange(i: SSAValue) -> None:
        step = b.cast(b.load(k.sources[0], i), b.index_type)
        place = b.min_index(b.add_index(i, b.max_index(step, 0)), b.sub_index(count, 1))
        here, there = b.load_now(order, i), b.load_now(order, place)
        b.store(there, order, i)
        b.store(here, order, place)

    def run(_: SSAValue) -> None:
        b.lanes(0, count, lambda i: b.store(b.cast(i, dtypes.i64), order, i))
        b.each(0, count, exchange)

    b.each(k.lo, k.hi, run)
    return k.finish(1, 1)
