"""Distributions by rejection: an element draws until a number is accepted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.random import Philox, Twister
from lowering.generic.whole import WholeKernelBuilder, size_of
from lowering.kern.builder import Index, KernBuilder
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.ops.random import MASK, MT_STATE, MT_WORDS
from torsh_dialect.ops.rejection import (
    SQUEEZE,
    STIRLING,
    THIRD,
    BinomialOp,
    PoissonOp,
    Rejecting,
    StandardGammaOp,
)
from torsh_dialect.types import element_type

F64, U32, U64 = dtypes.f64, dtypes.ui32, dtypes.ui64

Values = Sequence[SSAValue]


class Source(Protocol):
    """Where uniform numbers come from: its state is one value that loops carry."""

    def draw(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        """A number in [0, 1) as f64, and the state behind it."""
        ...

    def normal(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        """A standard normal number as f64, and the state behind it."""
        ...


def _unit(b: KernBuilder, first: SSAValue, second: SSAValue) -> SSAValue:
    word = b.or_(b.shl(first, b.const(32, U64)), second)
    kept = b.and_(word, b.const(2**53 - 1, U64))
    return b.mul(b.cast(kept, F64), b.const(2.0**-53, F64))


def _polar(b: KernBuilder, turn: SSAValue, size: SSAValue) -> tuple[SSAValue, SSAValue]:
    """Radius and angle of a pair of normal numbers."""
    square = b.mul(b.const(-2.0, F64), b.math("log1p", b.neg(size)))
    return b.sqrt(square), b.mul(b.const(2 * math.pi, F64), turn)


class Blocks:
    """The blocks of one element; the state is how many draws it has made (ui64)."""

    def __init__(self, b: KernBuilder, philox: Philox, number: SSAValue):
        self.b, self.philox, self.number = b, philox, number

    def draw(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        first, second, *_ = self.philox.block(self.number, state)
        return _unit(self.b, first, second), self.b.add(state, self.b.const(1, U64))

    def normal(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        b, words = self.b, self.philox.block(self.number, state)
        radius, angle = _polar(b, _unit(b, *words[2:]), _unit(b, *words[:2]))
        return b.mul(radius, b.math("cos", angle)), b.add(state, b.const(1, U64))


class Words:
    """The words of a twister; the state is how many of them are used (an index).

    Of a pair of normal numbers the second is kept in the twister's last three words.
    """

    def __init__(self, b: KernBuilder, twister: Twister):
        self.b, self.twister = b, twister

    def _word(self, used: SSAValue) -> tuple[SSAValue, SSAValue]:
        b = self.b
        empty = b.compare_index("ge", used, MT_WORDS)

        def renewed() -> Values:
            self.twister.renew()
            return ()

        b.if_(empty, renewed)
        place = b.select_index(empty, 0, used)
        return b.cast(self.twister.tempered(place), U64), b.index(b.add_index(place, 1))

    def draw(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        first, state = self._word(state)
        second, state = self._word(state)
        return _unit(self.b, first, second), state

    def normal(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        b = self.b

        def kept() -> Values:
            upper, lower = (b.cast(self._load(n), U64) for n in (2, 3))
            self._keep([b.const(0, U64)] * 3)
            bits = b.or_(b.shl(upper, b.const(32, U64)), lower)
            return [b.bitcast(bits, F64), state]

        def made() -> Values:
            turn, after = self.draw(state)
            size, after = self.draw(after)
            radius, angle = _polar(b, turn, size)
            bits = b.bitcast(b.mul(radius, b.math("sin", angle)), U64)
            upper = b.shr(bits, b.const(32, U64))
            self._keep([b.const(1, U64), upper, b.and_(bits, b.const(MASK, U64))])
            return [b.mul(radius, b.math("cos", angle)), after]

        number, after = b.if_(b.ne(self._load(1), b.const(0, U32)), kept, made)
        return number, after

    def _load(self, place: int) -> SSAValue:
        return self.b.load_now(self.twister.state, MT_WORDS + place)

    def _keep(self, words: Values) -> None:
        for place, word in enumerate(words, start=1):
            self.b.store(self.b.cast(word, U32), self.twister.state, MT_WORDS + place)


Sample = Callable[[KernBuilder, Source, SSAValue, Values], Values]
"""Builds a number from parameters: its value, and the source's state behind it."""


def _going(going: SSAValue, *_: SSAValue) -> SSAValue:
    return going


class Arithmetic:
    """Short names for f64."""

    def __init__(self, b: KernBuilder):
        self.b = b

    def __call__(self, value: float) -> SSAValue:
        return self.b.const(value, F64)

    def wide(self, x: SSAValue) -> SSAValue:
        return self.b.cast(x, F64)

    def log(self, x: SSAValue) -> SSAValue:
        return self.b.math("log", x)

    def affine(self, x: SSAValue, factor: float, term: float) -> SSAValue:
        return self.b.add(self.b.mul(x, self(factor)), self(term))

    def accepted(
        self, source: Source, state: SSAValue, accept: Callable[[SSAValue, SSAValue], Values],
        first: SSAValue,
    ) -> Values:  # fmt: skip
        """Draw pairs until `accept` (whether, and what) takes one: what, and the state.

        `first` is any value of the result's type.
        """
        b = self.b

        def step(going: SSAValue, value: SSAValue, now: SSAValue) -> Values:
            u, now = source.draw(now)
            v, now = source.draw(now)
            taken, value = accept(b.sub(u, self(0.5)), v)
            return [b.not_(taken), value, now]

        return b.while_([b.const(True, dtypes.i1), first, state], _going, step)[1:]


def poisson(b: KernBuilder, source: Source, state: SSAValue, parameters: Values) -> Values:
    """See `PoissonOp`."""
    (rate,), f = parameters, Arithmetic(b)

    def few() -> Values:
        limit = b.math("exp", b.neg(rate))

        def step(going: SSAValue, product: SSAValue, count: SSAValue, now: SSAValue) -> Values:
            u, now = source.draw(now)
            product = b.mul(product, u)
            again = b.gt(product, limit)
            return [again, product, b.select(again, b.add(count, f(1.0)), count), now]

        start = [b.gt(rate, f(0.0)), f(1.0), f(0.0), state]
        return b.while_(start, _going, step)[2:]

    return b.if_(b.ge(rate, f(10.0)), lambda: _many_poisson(f, source, state, rate), few)


def _many_poisson(f: Arithmetic, source: Source, state: SSAValue, rate: SSAValue) -> Values:
    b = f.b
    width = f.affine(b.sqrt(rate), 2.53, 0.931)
    a = f.affine(width, 0.02483, -0.059)
    scale = f.log(b.add(f(1.1239), b.div(f(1.1328), b.sub(width, f(3.4)))))
    least = b.sub(f(0.9277), b.div(f(3.6224), b.sub(width, f(2.0))))
    log_rate = f.log(rate)

    def accept(u: SSAValue, v: SSAValue) -> Values:
        us = b.sub(f(0.5), b.abs(u))
        slope = b.add(b.div(b.mul(f(2.0), a), us), width)
        k = b.floor(b.add(b.add(b.mul(slope, u), rate), f(0.43)))
        inside = b.and_(b.ge(us, f(0.07)), b.le(v, least))
        corner = b.and_(b.lt(us, f(0.013)), b.gt(v, us))
        possible = b.and_(b.and_(b.ge(k, f(0.0)), b.gt(v, f(0.0))), b.not_(corner))
        bound = b.add(b.div(a, b.mul(us, us)), width)
        size = b.sub(b.add(f.log(v), scale), f.log(bound))
        chance = b.sub(b.mul(k, log_rate), b.math("lgamma", b.add(k, f(1.0))))
        under = b.le(size, b.sub(chance, rate))
        return [b.or_(inside, b.and_(possible, under)), k]

    return f.accepted(source, state, accept, f(0.0))


def binomial(b: KernBuilder, source: Source, state: SSAValue, parameters: Values) -> Values:
    """See `BinomialOp`."""
    (count, chance), f = parameters, Arithmetic(b)
    zero, one, half = (b.const(value, count.type) for value in (0.0, 1.0, 0.5))
    often = b.gt(chance, half)
    rare = b.select(often, b.sub(one, chance), chance)

    def few() -> Values:
        # Rounded once: the logarithm of the type itself would differ in its last bit.
        exact = b.math("log1p", b.neg(b.cast(rare, F64)))
        scale = b.cast(b.cast(exact, count.type), F64)

        def step(going: SSAValue, total: SSAValue, found: SSAValue, now: SSAValue) -> Values:
            u, now = source.draw(now)
            total = b.add(total, b.ceil(b.div(f.log(u), scale)))
            again = b.le(total, b.cast(count, F64))
            return [again, total, b.select(again, b.add(found, one), found), now]

        some = b.and_(b.gt(count, zero), b.gt(rare, zero))
        start = [some, f(0.0), zero, state]
        return b.while_(start, _going, step)[2:]

    many = b.ge(b.mul(count, rare), b.const(10.0, count.type))
    value, state = b.if_(many, lambda: _many_binomial(f, source, state, count, rare), few)
    return [b.select(often, b.sub(count, value), value), state]


def _stirling(f: Arithmetic, k: SSAValue) -> SSAValue:
    b, following = f.b, f.b.add(k, f(1.0))
    square = b.mul(following, following)
    inner = b.sub(f(1 / 360), b.div(f(1 / 1260), square))
    found = b.div(b.sub(f(1 / 12), b.div(inner, square)), following)
    for place, value in enumerate(STIRLING):
        found = b.select(b.eq(k, f(float(place))), f(value), found)
    return found


def _many_binomial(
    f: Arithmetic, source: Source, state: SSAValue, count: SSAValue, chance: SSAValue
) -> Values:
    """Terms of `count` and `chance` alone are rounded to their type, all others are f64."""
    b, one, two = f.b, f(1.0), f(2.0)
    unit = b.const(1.0, count.type)
    rest, mean = b.sub(unit, chance), b.mul(count, chance)
    spread = f.wide(b.sqrt(b.mul(mean, rest)))
    width = f.affine(spread, 2.53, 1.15)
    a = b.add(f.affine(width, 0.0248, -0.0873), b.mul(f(0.01), f.wide(chance)))
    odds, centre = f.wide(b.div(chance, rest)), b.add(f.wide(mean), f(0.5))
    alpha = b.mul(b.add(f(2.83), b.div(f(5.1), width)), spread)
    least = b.sub(f(0.92), b.div(f(4.2), width))
    mode = f.wide(b.floor(b.mul(b.add(count, unit), chance)))
    trials, more = f.wide(count), f.wide(b.add(count, unit))
    above = b.add(b.sub(trials, mode), one)
    peak = b.mul(b.add(mode, f(0.5)), f.log(b.div(b.add(mode, one), b.mul(odds, above))))
    tails = b.add(_stirling(f, mode), _stirling(f, b.sub(trials, mode)))

    def accept(u: SSAValue, v: SSAValue) -> Values:
        us = b.sub(f(0.5), b.abs(u))
        slope = b.add(b.div(b.mul(two, a), us), width)
        found = b.cast(b.floor(b.add(b.mul(slope, u), centre)), count.type)
        possible = b.and_(b.ge(found, b.const(0.0, count.type)), b.le(found, count))
        inside = b.and_(b.ge(us, f(0.07)), b.le(v, least))
        k, others = f.wide(found), b.sub(count, found)
        left, following = f.wide(b.add(others, unit)), f.wide(b.add(found, unit))
        limit = b.add(peak, b.mul(more, f.log(b.div(above, left))))
        ratio = f.log(b.div(b.mul(odds, left), following))
        limit = b.add(b.add(limit, b.mul(b.add(k, f(0.5)), ratio)), tails)
        limit = b.sub(b.sub(limit, _stirling(f, k)), _stirling(f, f.wide(others)))
        size = f.log(b.div(b.mul(v, alpha), b.add(b.div(a, b.mul(us, us)), width)))
        return [b.and_(possible, b.or_(inside, b.le(size, limit))), found]

    return f.accepted(source, state, accept, b.const(0.0, count.type))


def standard_gamma(b: KernBuilder, source: Source, state: SSAValue, parameters: Values) -> Values:
    """See `StandardGammaOp`."""
    (shape,), f = parameters, Arithmetic(b)
    one = b.const(1.0, shape.type)

    def boosted() -> Values:
        u, now = source.draw(state)
        scale = b.math("pow", b.sub(f(1.0), u), f.wide(b.div(one, shape)))
        return [scale, b.add(shape, one), now]

    def some() -> Values:
        scale, raised, now = b.if_(b.lt(shape, one), boosted, lambda: [f(1.0), shape, state])
        d = f.wide(b.sub(raised, b.const(THIRD, shape.type)))
        value, now = _marsaglia_tsang(f, source, now, d)
        return [b.cast(b.mul(b.mul(scale, d), value), shape.type), now]

    zero = b.const(0.0, shape.type)
    return b.if_(b.gt(shape, zero), some, lambda: [zero, state])


def _marsaglia_tsang(f: Arithmetic, source: Source, state: SSAValue, d: SSAValue) -> Values:
    """The third power of 1 + x / sqrt(9 d) for an accepted normal x."""
    b, one = f.b, f(1.0)
    slope = b.div(one, b.sqrt(b.mul(f(9.0), d)))

    def positive(going: SSAValue, x: SSAValue, base: SSAValue, now: SSAValue) -> Values:
        x, now = source.normal(now)
        base = b.add(one, b.mul(slope, x))
        return [b.le(base, f(0.0)), x, base, now]

    def step(going: SSAValue, value: SSAValue, now: SSAValue) -> Values:
        start = [b.const(True, dtypes.i1), f(0.0), f(0.0), now]
        _, x, base, now = b.while_(start, _going, positive)
        value = b.mul(b.mul(base, base), base)
        u, now = source.draw(now)
        u, square = b.sub(one, u), b.mul(x, x)
        inside = b.lt(u, b.sub(one, b.mul(b.mul(f(SQUEEZE), square), square)))
        excess = b.mul(d, b.add(b.sub(one, value), f.log(value)))
        under = b.lt(f.log(u), b.add(b.mul(f(0.5), square), excess))
        return [b.not_(b.or_(inside, under)), value, now]

    return b.while_([b.const(True, dtypes.i1), f(0.0), state], _going, step)[1:]


SAMPLES: dict[type[Operation], Sample] = {
    PoissonOp: poisson,
    BinomialOp: binomial,
    StandardGammaOp: standard_gamma,
}


@whole_kernel(*SAMPLES)
def rejecting(op: Operation) -> Kernel:
    """Of a Philox state elements are units, and one more writes the state; else all are one."""
    assert isinstance(op, Rejecting)
    k = WholeKernelBuilder(op)
    return (_parallel if element_type(op.operands[0]) == U64 else _serial)(k, SAMPLES[type(op)])


def _parallel(k: WholeKernelBuilder, sample: Sample) -> Kernel:
    b, size = k.b, size_of(k.op.results[0])
    state, *parameters = k.sources
    key, start = b.load(state, 0), b.load(state, 1)

    def unsigned(i: Index) -> SSAValue:
        return b.cast(b.cast(b.index(i), dtypes.i64), U64)

    def unit(i: SSAValue) -> None:
        number = b.add(start, unsigned(i))

        def element() -> Values:
            source = Blocks(b, Philox(b, key), number)
            value, _ = sample(b, source, b.const(0, U64), [b.load(p, i) for p in parameters])
            b.store(value, k.targets[0], i)
            return ()

        def last() -> Values:
            b.store(key, k.targets[1], 0)
            b.store(number, k.targets[1], 1)
            return ()

        b.if_(b.compare_index("lt", i, b.dim(size)), element, last)

    b.each(k.lo, k.hi, unit)
    return k.finish(size + 1, 512)


def _serial(k: WholeKernelBuilder, sample: Sample) -> Kernel:
    b, size, after = k.b, size_of(k.op.results[0]), k.targets[1]
    source = Words(b, Twister(b, after))

    def run(_: SSAValue) -> None:
        b.each(0, MT_STATE, lambda i: b.store(b.load(k.sources[0], i), after, i))
        used = b.cast(b.cast(b.load_now(after, MT_WORDS), dtypes.i64), b.index_type)

        def element(i: SSAValue, *carried: SSAValue) -> Values:
            parameters = [b.load(p, i) for p in k.sources[1:]]
            value, following = sample(b, source, carried[0], parameters)
            b.store(value, k.targets[0], i)
            return [following]

        first = b.index(b.min_index(used, MT_WORDS))
        (last,) = b.for_(0, b.dim(size), element, [first])
        b.store(b.cast(b.cast(last, dtypes.i64), dtypes.ui32), after, MT_WORDS)

    b.each(k.lo, k.hi, run)
    return k.finish(1, 1)
