"""Random numbers of imported models: words of a stream, and distributions as ops over them.

A stream is a value of the program: its first state is an input of `@main` like any other state,
what it is after a call an output. Two streams are known (`torsh_fx.random`):

- `philox`: each element has a block of four words of its own, so that drawing is parallel;
- `mt19937`: words one after the other, as torch's generator on the CPU gives them. Formulas are
  those of aten/core/DistributionsHelper.h, aten/core/TransformationHelper.h and
  aten/native/cpu/DistributionTemplates.h of torch 2.13, so that the numbers are torch's.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.ir import Attribute, Block, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, floordiv, product
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.ops.box_muller import BoxMullerOp
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.logic import BitwiseAndOp, BitwiseOrOp, ShiftLeftOp, ShiftRightOp
from torsh_dialect.ops.maths import CosOp, Log1pOp, SinOp
from torsh_dialect.ops.random import MT_STATE, MT_WORDS, Mt19937Op, PhiloxOp, WithinOp
from torsh_dialect.ops.rejection import Rejecting
from torsh_dialect.ops.scan import CumSumOp
from torsh_dialect.settings import StreamName
from torsh_dialect.types import dims_of, element_type, tensor
from torsh_fx.random import first_state

LINE = 16
"""Numbers that torch's vectorised normal distribution makes at once; fewer are made one by one."""


SPLITTABLE = 2.0**900
"""Numbers up to this one can be split in halves without overflow."""


def stream_argument(block: Block, stream: StreamName) -> SSAValue:
    """A new last argument of a function: the state of its stream."""
    words = first_state(stream)
    element = dtypes.dtype_of_numpy(words.dtype).element
    argument = block.insert_arg(tensor(element, words.shape), len(block.args))
    argument.name_hint = "random"
    return argument


def computed_in(element: Attribute) -> Attribute:
    """The type in which numbers of a floating-point type are drawn: f64, or f32 for smaller."""
    return dtypes.f64 if dtype_of(element).bits == 64 else dtypes.f32


@dataclass
class Stream(abc.ABC):
    """Where the random words of a program come from.

    Attributes:
        first: Gives the state before the first draw.
        block: Where draws are; those in nested blocks need a state of their own (`inside`).
        now: The state now; None before the first draw.
    """

    first: Callable[[], SSAValue]
    block: Block
    now: SSAValue | None = None
    ordered: ClassVar[bool] = False
    """Whether numbers that nothing uses must be drawn, so that others are those of the source."""

    def restart(self, state: SSAValue) -> None:
        """Draw from `state` on."""
        self.now = state

    @contextmanager
    def inside(self, state: SSAValue, block: Block) -> Generator[None]:
        """Draw in a nested block from its own state; afterwards from here as before."""
        saved = dict(vars(self))
        self.restart(state)
        self.block = block
        yield
        vars(self).update(saved)

    @property
    def state(self) -> SSAValue:
        """The state that the next draw starts from."""
        if self.now is None:
            self.now = self.first()
        return self.now

    @abc.abstractmethod
    def words(self, c: Compose, dims: Sequence[Dim], each: int) -> list[SSAValue]:
        """`each` (at most 4) tensors of words (ui32) of these extents."""

    @abc.abstractmethod
    def words_where(self, c: Compose, mask: SSAValue, each: int) -> list[SSAValue]:
        """As `words`, of the mask's extents; torch draws none where the mask (i1) is false."""

    @abc.abstractmethod
    def after(self, c: Compose) -> SSAValue:
        """The state behind all draws."""

    @abc.abstractmethod
    def normal(
        self, c: Compose, dims: Sequence[Dim], element: Attribute, spread: Spread, *, dense: bool
    ) -> SSAValue:
        """Normally distributed numbers of a floating-point type.

        `dense` says whether torch's tensor is contiguous, on which its formula depends.
        """

    @abc.abstractmethod
    def serial_normal(self, c: Compose, dims: Sequence[Dim]) -> SSAValue:
        """Standard normal numbers in f64, which torch draws one by one."""

    def rejected(self, c: Compose, cls: type[Rejecting], *parameters: SSAValue) -> SSAValue:
        """Numbers of parameters of equal types, as many draws as they take."""
        y, now = c.b.all(cls, self.after(c), *parameters)
        self.restart(now)
        return y

    def joined_where(self, c: Compose, mask: SSAValue, each: int) -> SSAValue:
        """`words_where` of one or two words as ui64."""
        return c.cast(_joined(c, self.words_where(c, mask, each)), dtypes.ui64)

    @abc.abstractmethod
    def bits_by(self, c: Compose, dims: Sequence[Dim], wide: SSAValue) -> SSAValue:
        """Words of 64 bits where the scalar `wide` holds, else of 32; as ui64."""

    # -- what both have in common

    def bits(self, c: Compose, dims: Sequence[Dim], width: int) -> SSAValue:
        """Words of 32 (ui32) or 64 bits (ui64)."""
        return _joined(c, self.words(c, dims, width // 32))

    def uniform(self, c: Compose, dims: Sequence[Dim], element: Attribute) -> SSAValue:
        """Numbers in [0, 1) as f32 with 24 bits or f64 with 53 bits."""
        return unit(c, self.words(c, dims, dtype_of(element).bits // 32))


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation."""

    mean: float = 0.0
    deviation: float = 1.0


def _joined(c: Compose, words: Sequence[SSAValue]) -> SSAValue:
    if len(words) == 1:
        return words[0]
    upper, lower = (c.cast(word, dtypes.ui64) for word in words)
    return c.b(BitwiseOrOp, c.b(ShiftLeftOp, upper, c.like(32, upper)), lower)


def within(c: Compose, x: SSAValue, low: float, high: float) -> SSAValue:
    """Parameters of a distribution, which are checked when the program runs."""
    return c.b(WithinOp, x, low=low, high=high)


def unit(c: Compose, words: Sequence[SSAValue]) -> SSAValue:
    """Numbers in [0, 1) of the lower 24 bits of words (f32), or 53 of two (f64)."""
    bits, element = (24, dtypes.f32) if len(words) == 1 else (53, dtypes.f64)
    word = _joined(c, words)
    kept = c.b(BitwiseAndOp, word, c.like(2**bits - 1, word))
    return c.mul(c.cast(kept, element), 2.0**-bits)


def stream_of(name: StreamName, block: Block) -> Stream:
    """A stream by its name, whose first state becomes an argument of the block when it is used."""
    kind = Philox if name == "philox" else Mt19937
    return kind(lambda: stream_argument(block, name), block)


class Philox(Stream):
    """The counted stream: `skip` blocks are drawn since the state."""

    skip: Dim = 0

    def restart(self, state: SSAValue) -> None:
        super().restart(state)
        self.skip = 0

    def words(self, c: Compose, dims: Sequence[Dim], each: int) -> list[SSAValue]:
        skip, target = dims_attribute([self.skip]), dims_attribute(dims)
        drawn = [c.b(PhiloxOp, self.state, skip=skip, target=target, word=n) for n in range(each)]
        self.skip = self.skip + product(dims)
        return drawn

    def words_where(self, c: Compose, mask: SSAValue, each: int) -> list[SSAValue]:
        return self.words(c, dims_of(mask), each)

    def bits_by(self, c: Compose, dims: Sequence[Dim], wide: SSAValue) -> SSAValue:
        return self.bits(c, dims, 64)

    def after(self, c: Compose) -> SSAValue:
        step = c.cast(c.reshape(c.dim(self.skip), [1]), dtypes.ui64)
        nothing = c.constant(np.zeros(1, np.uint64), dtypes.ui64)
        return c.add(self.state, c.concat([nothing, step], 0))

    def normal(
        self, c: Compose, dims: Sequence[Dim], element: Attribute, spread: Spread, *, dense: bool
    ) -> SSAValue:
        wide = computed_in(element)
        return c.cast(_spread(c, self._standard(c, dims, wide), spread), element)

    def serial_normal(self, c: Compose, dims: Sequence[Dim]) -> SSAValue:
        return self._standard(c, dims, dtypes.f64)

    def _standard(self, c: Compose, dims: Sequence[Dim], wide: Attribute) -> SSAValue:
        """By Box and Muller from the element's own block."""
        if wide == dtypes.f64:
            words = self.words(c, dims, 4)
            size, turn = unit(c, words[:2]), unit(c, words[2:])
            size = c.b(Log1pOp, c.neg(size))
        else:
            # All 32 bits, at the middle of their interval: 24 would end at 5.8 deviations.
            size, turn = (
                c.add(c.mul(c.cast(word, wide), 2.0**-32), 2.0**-33)
                for word in self.words(c, dims, 2)
            )
            size = c.log(c.minimum(size, 1.0))
        return c.mul(c.sqrt(c.mul(size, -2.0)), c.b(CosOp, c.mul(turn, 2 * math.pi)))


def _spread(c: Compose, x: SSAValue, spread: Spread) -> SSAValue:
    """`x * deviation + mean` in x's type."""
    if spread == Spread():
        return x
    narrow = element_type(x) == dtypes.f32
    mean, deviation = (
        float(np.float32(v)) if narrow else v for v in (spread.mean, spread.deviation)
    )
    return fused(c, x, deviation, mean)


def fused(c: Compose, x: SSAValue, factor: float, term: float) -> SSAValue:
    """`x * factor + term` with one rounding, as torch's compiler fuses it.

    Of f64 by the error-free sum and product of T. Dekker, "A floating-point technique for
    extending the available precision" (1971), which leaves a double rounding at most.
    """
    if term == 0 or factor == 0:
        return c.add(c.mul(x, factor), term)
    if element_type(x) != dtypes.f64:
        wide = c.cast(x, dtypes.f64)
        return c.cast_like(c.add(c.mul(wide, factor), term), x)
    if max(abs(factor), abs(term)) > SPLITTABLE:
        return c.add(c.mul(x, factor), term)
    product, error = _exact_product(c, x, factor)
    total = c.add(product, term)
    part = c.sub(total, product)
    lost = c.add(c.sub(product, c.sub(total, part)), c.sub(c.like(term, part), part))
    return c.add(total, c.add(lost, error))


def _exact_product(c: Compose, x: SSAValue, factor: float) -> tuple[SSAValue, SSAValue]:
    """A product of f64 and its rounding error."""
    split = 2.0**27 + 1
    high = factor * split - (factor * split - factor)
    low = factor - high
    scaled = c.mul(x, split)
    upper = c.sub(scaled, c.sub(scaled, x))
    lower = c.sub(x, upper)
    product = c.mul(x, factor)
    error = c.sub(c.mul(upper, high), product)
    error = c.add(c.add(error, c.mul(upper, low)), c.mul(lower, high))
    return product, c.add(error, c.mul(lower, low))


class Mt19937(Stream):
    """Torch's generator on the CPU."""

    ordered: ClassVar[bool] = True

    def words(self, c: Compose, dims: Sequence[Dim], each: int) -> list[SSAValue]:
        drawn = self._drawn(c, product(dims) * each, None)
        table = c.reshape(drawn, [product(dims), each])
        return [c.reshape(c.slice(table, 1, n, 1), dims) for n in range(each)]

    def _drawn(self, c: Compose, room: Dim, count: SSAValue | None) -> SSAValue:
        """The next words; of a count that is a value, with room behind them."""
        count = c.dim(room) if count is None else count
        target = dims_attribute([room])
        words, self.now = c.b.all(Mt19937Op, self.state, count, target=target)
        return words

    def words_where(self, c: Compose, mask: SSAValue, each: int) -> list[SSAValue]:
        dims, size = dims_of(mask), product(dims_of(mask))
        chosen = c.cast(c.reshape(mask, [size]), dtypes.i64)
        drawn = self._drawn(c, size * each, c.mul(c.sum(chosen, [0]), each))
        place = c.sub(c.b(CumSumOp, chosen, axis=0), chosen)
        table = c.reshape(drawn, [size, each])
        return [
            c.reshape(c.take(c.reshape(c.slice(table, 1, n, 1), [size]), place, 0), dims)
            for n in range(each)
        ]

    def bits_by(self, c: Compose, dims: Sequence[Dim], wide: SSAValue) -> SSAValue:
        size = product(dims)
        each = c.add(c.cast(wide, dtypes.i64), 1)
        drawn = self._drawn(c, size * 2, c.mul(c.dim(size), each))
        place = c.mul(c.iota(size), each)
        behind = c.minimum(c.add(place, 1), c.dim(size * 2 - 1))
        pair = [c.take(drawn, at, 0) for at in (place, behind)]
        found = c.where(wide, _joined(c, pair), c.cast(pair[0], dtypes.ui64))
        return c.reshape(found, dims)

    def after(self, c: Compose) -> SSAValue:
        return self.state

    # -- normal numbers

    def normal(
        self, c: Compose, dims: Sequence[Dim], element: Attribute, spread: Spread, *, dense: bool
    ) -> SSAValue:
        size = product(dims)
        if not dense or (isinstance(size, int) and size < LINE):
            return self._few(c, dims, element, spread)
        if isinstance(size, int):
            return c.reshape(self._lines(c, size, element, spread), dims)
        return self._few_or_lines(c, dims, element, spread)

    def _few(self, c: Compose, dims: Sequence[Dim], element: Attribute, spread: Spread) -> SSAValue:
        return c.cast(_spread(c, self.serial_normal(c, dims), spread), element)

    def _few_or_lines(
        self, c: Compose, dims: Sequence[Dim], element: Attribute, spread: Spread
    ) -> SSAValue:
        """What torch does for an extent that is known when the program runs."""
        size, start = product(dims), self.state
        few = self._few(c, dims, element, spread)
        after_few, self.now = self.state, start
        many = c.reshape(self._lines(c, size, element, spread), dims)
        short = c.lt(c.dim(size), LINE)
        self.now = c.where(short, after_few, self.state)
        return c.where(short, few, many)

    def _lines(self, c: Compose, size: Dim, element: Attribute, spread: Spread) -> SSAValue:
        """`normal_fill`: lines of 16 numbers; the last 16 are drawn anew if a line is not full.

        A line is drawn as 16 uniform numbers u, of which u[j] and u[j + 8] make numbers j and
        j + 8. Halves are drawn line by line, so that the numbers of a short line are not.
        """
        wide = computed_in(element)
        each = dtype_of(wide).bits // 32
        half = element != wide
        total = c.dim(size)
        rest = c.remainder(total, LINE)
        short = c.gt(rest, 0)
        behind = c.sub(total, rest) if half else total
        last = c.where(short, c.constant(LINE, dtypes.i64), c.constant(0, dtypes.i64))
        drawn = self._drawn(c, (size + LINE) * each, c.mul(c.add(behind, last), each))
        table = c.reshape(drawn, [size + LINE, each])
        flat = [c.reshape(c.slice(table, 1, n, 1), [size + LINE]) for n in range(each)]
        place = c.iota(size)
        anew = c.both(short, c.ge(place, c.sub(total, LINE)))
        within = c.where(anew, c.sub(place, c.sub(total, LINE)), c.remainder(place, LINE))
        line = c.where(anew, behind, c.sub(place, within))
        first = c.add(line, c.remainder(within, LINE // 2))
        size_of, turn = (
            unit(c, [c.take(word, at, 0) for word in flat])
            for at in (first, c.add(first, LINE // 2))
        )
        upper = c.lt(within, LINE // 2)
        drawn = c.where(upper, *(_normal_of(c, size_of, turn, sine) for sine in (False, True)))
        return c.cast(_spread(c, drawn, spread), element)

    def serial_normal(self, c: Compose, dims: Sequence[Dim]) -> SSAValue:
        """`normal_distribution<double>`: of a pair the second number is kept for the next draw."""
        size = product(dims)
        if size == 0:
            return c.constant(np.zeros([d if isinstance(d, int) else 0 for d in dims]), dtypes.f64)
        pairs = floordiv(size + 1, 2)
        state = self.state
        kept = c.cast(c.slice(state, 0, MT_WORDS + 1, 1), dtypes.i64)
        missing = c.sub(c.dim(size), c.reshape(kept, []))
        count = c.mul(c.floordiv(c.add(missing, 1), 2), 4)
        table = c.reshape(self._drawn(c, pairs * 4, count), [pairs, 4])
        words = [c.slice(table, 1, n, 1) for n in range(4)]
        radius = c.sqrt(c.mul(c.b(Log1pOp, c.neg(unit(c, words[2:]))), -2.0))
        angle = c.mul(unit(c, words[:2]), 2 * math.pi)
        both = [c.mul(radius, c.b(CosOp, angle)), c.mul(radius, c.b(SinOp, angle))]
        made = c.reshape(c.concat(both, 1), [pairs * 2])
        row = c.concat([self._kept(c, state), made], 0)  # the kept number, then those of pairs
        start = c.sub(c.like(1, kept), kept)
        self._keep(c, row, c.add(start, c.dim(size)), c.remainder(missing, 2), pairs * 2)
        return c.reshape(c.take(row, c.add(c.iota(size), start), 0), dims)

    def _kept(self, c: Compose, state: SSAValue) -> SSAValue:
        words = [c.slice(state, 0, MT_WORDS + n, 1) for n in (2, 3)]
        return c.b(BitcastOp, _joined(c, words), to=dtypes.f64)

    def _keep(self, c: Compose, row: SSAValue, place: SSAValue, flag: SSAValue, last: Dim) -> None:
        """Keep the number at `place` of the row, if the flag is 1."""
        number = c.take(row, c.minimum(place, c.dim(last)), 0)
        bits = c.b(BitcastOp, number, to=dtypes.ui64)
        upper = c.b(ShiftRightOp, bits, c.like(32, bits))
        lower = c.b(BitwiseAndOp, bits, c.like(2**32 - 1, bits))
        flagged = c.cast(c.reshape(flag, [1]), dtypes.ui32)
        parts = [flagged, *(c.mul(c.cast(v, dtypes.ui32), flagged) for v in (upper, lower))]
        words = c.slice(self.state, 0, 0, MT_WORDS + 1)
        self.now = c.concat([words, *parts], 0)
        assert dims_of(self.now) == (MT_STATE,)


def _normal_of(c: Compose, size: SSAValue, turn: SSAValue, sine: bool) -> SSAValue:
    """A normal number of two uniform ones."""
    if element_type(size) == dtypes.f32:
        return c.b(BoxMullerOp, size, turn, sine=sine or None)
    radius = c.sqrt(c.mul(c.log(c.sub(c.like(1.0, size), size)), -2.0))
    return c.mul(radius, c.b(SinOp if sine else CosOp, c.mul(turn, 2 * math.pi)))
