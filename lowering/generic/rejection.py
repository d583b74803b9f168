"""Distributions by rejection: an element draws until a number is accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.random import Philox, Twister
from lowering.generic.whole import WholeKernelBuilder, size_of
from lowering.kern.builder import Index, KernBuilder
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.ops.random import MT_STATE, MT_WORDS
from torsh_dialect.ops.rejection import STIRLING, BinomialOp, PoissonOp, Rejecting
from torsh_dialect.types import element_type

F64, U64 = dtypes.f64, dtypes.ui64

Values = Sequence[SSAValue]


class Source(Protocol):
    """Where uniform numbers come from: its state is one value that loops carry."""

    def draw(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        """A number in [0, 1) as f64, and the state behind it."""
        ...


def _unit(b: KernBuilder, first: SSAValue, second: SSAValue) -> SSAValue:
    word = b.or_(b.shl(first, b.const(32, U64)), second)
    kept = b.and_(word, b.const(2**53 - 1, U64))
    return b.mul(b.cast(kept, F64), b.const(2.0**-53, F64))


class Blocks:
    """The blocks of one element; the state is how many draws it has made (ui64)."""

    def __init__(self, b: KernBuilder, philox: Philox, number: SSAValue):
        self.b, self.philox, self.number = b, philox, number

    def draw(self, state: SSAValue) -> tuple[SSAValue, SSAValue]:
        first, second, *_ = self.philox.block(self.number, state)
        return _unit(self.b, first, second), self.b.add(state, self.b.const(1, U64))


class Words:
    """The words of a twister; the state is how many of them are used (an index)."""

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

    def log(self, x: SSAValue) -> SSAValue:
        return self.b.math("log", x)

    def affine(self, x: SSAValue, factor: float, term: float) -> SSAValue:
        return self.b.add(self.b.mul(x, self(factor)), self(term))

    def accepted(
        self, source: Source, state: SSAValue, accept: Callable[[SSAValue, SSAValue], Values]
    ) -> Values:
        """Draw pairs until `accept` (whether, and what) takes one: what, and the state."""
        b = self.b

        def step(going: SSAValue, value: SSAValue, now: SSAValue) -> Values:
            u, now = source.draw(now)
            v, now = source.draw(now)
            taken, value = accept(b.sub(u, self(0.5)), v)
            return [b.not_(taken), value, now]

        start = [b.const(True, dtypes.i1), self(0.0), state]
        return b.while_(start, _going, step)[1:]


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

    return f.accepted(source, state, accept)


def binomial(b: KernBuilder, source: Source, state: SSAValue, parameters: Values) -> Values:
    """See `BinomialOp`."""
    (count, chance), f = parameters, Arithmetic(b)
    often = b.gt(chance, f(0.5))
    rare = b.select(often, b.sub(f(1.0), chance), chance)

    def few() -> Values:
        scale = b.math("log1p", b.neg(rare))

        def step(going: SSAValue, total: SSAValue, found: SSAValue, now: SSAValue) -> Values:
            u, now = source.draw(now)
            total = b.add(total, b.ceil(b.div(f.log(u), scale)))
            again = b.le(total, count)
            return [again, total, b.select(again, b.add(found, f(1.0)), found), now]

        some = b.and_(b.gt(count, f(0.0)), b.gt(rare, f(0.0)))
        start = [some, f(0.0), f(0.0), state]
        return b.while_(start, _going, step)[2:]

    many = b.ge(b.mul(count, rare), f(10.0))
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
    b, one = f.b, f(1.0)
    rest = b.sub(one, chance)
    spread = b.sqrt(b.mul(b.mul(count, chance), rest))
    width = f.affine(spread, 2.53, 1.15)
    a = b.add(f.affine(width, 0.0248, -0.0873), b.mul(f(0.01), chance))
    odds = b.div(chance, rest)
    alpha = b.mul(b.add(f(2.83), b.div(f(5.1), width)), spread)
    least = b.sub(f(0.92), b.div(f(4.2), width))
    mode = b.floor(b.mul(b.add(count, one), chance))
    above = b.add(b.sub(count, mode), one)
    peak = b.mul(b.add(mode, f(0.5)), f.log(b.div(b.add(mode, one), b.mul(odds, above))))
    tails = b.add(_stirling(f, mode), _stirling(f, b.sub(count, mode)))

    def accept(u: SSAValue, v: SSAValue) -> Values:
        us = b.sub(f(0.5), b.abs(u))
        slope = b.add(b.div(b.mul(f(2.0), a), us), width)
        k = b.floor(b.add(b.add(b.mul(slope, u), b.mul(count, chance)), f(0.5)))
        possible = b.and_(b.ge(k, f(0.0)), b.le(k, count))
        inside = b.and_(b.ge(us, f(0.07)), b.le(v, least))
        left, following = b.add(b.sub(count, k), one), b.add(k, one)
        limit = b.add(peak, b.mul(b.add(count, one), f.log(b.div(above, left))))
        ratio = f.log(b.div(b.mul(odds, left), following))
        limit = b.add(b.add(limit, b.mul(b.add(k, f(0.5)), ratio)), tails)
        limit = b.sub(b.sub(limit, _stirling(f, k)), _stirling(f, b.sub(count, k)))
        size = f.log(b.div(b.mul(v, alpha), b.add(b.div(a, b.mul(us, us)), width)))
        return [b.and_(possible, b.or_(inside, b.le(size, limit))), k]

    return f.accepted(source, state, accept)


@whole_kernel(PoissonOp, BinomialOp)
def rejecting(op: Operation) -> Kernel:
    """Of a Philox state elements are units, and one more writes the state; else all are one."""
    assert isinstance(op, Rejecting)
    sample = poisson if isinstance(op, PoissonOp) else binomial
    k = WholeKernelBuilder(op)
    return (_parallel if element_type(op.operands[0]) == U64 else _serial)(k, sample)


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
