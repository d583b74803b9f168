"""The regularised incomplete gamma functions, of f64.

`P(a, x)` by its series (DLMF 8.7.1) below `a + 1`, `Q(a, x) = 1 - P` by Lentz's evaluation of the
continued fraction (DLMF 8.9.2) above. Errors count against 1: the smaller of the two is obtained
from the other where that one is computed.
"""

from lowering.math.doubled import exact
from lowering.math.gamma import SERIES_START, gamma, log_gamma_pair
from lowering.math.num import Num, repeat, where
from lowering.math.power import exp_pair, log_pair
from lowering.math.prim import V

MOST_STEPS = 20_000
"""Terms of either expansion; about 6 sqrt(a) are needed next to x = a."""
TINY = 1e-300


def _front(a: Num[V], x: Num[V]) -> Num[V]:
    """`x^a e^-x / gamma(a)`."""
    power = log_pair(x).times(exact(a)).plus(exact(-x))
    small = exp_pair(power) / gamma(where(a < SERIES_START, a, 1.0))
    large = exp_pair(power.plus(log_gamma_pair(a).negated()))
    return where(a < SERIES_START, small, large)


def _series(a: Num[V], x: Num[V], wanted: Num[V]) -> Num[V]:
    """The series of P over `front`, in the lanes of `wanted`."""
    first = 1.0 / a

    def going(state: list[Num[V]]) -> Num[V]:
        term, total, n = state
        return wanted & (term > total * 1e-17) & (n < float(MOST_STEPS))

    def step(state: list[Num[V]]) -> list[Num[V]]:
        term, total, n = state
        run, n_next = going(state), n + 1.0
        term_next = term * (x / (a + n_next))
        return [
            where(run, term_next, term),
            where(run, total + term_next, total),
            where(run, n_next, n),
        ]

    return repeat([first, first, a.of(0.0)], going, step)[1]


def _fraction(a: Num[V], x: Num[V], wanted: Num[V]) -> Num[V]:
    """The continued fraction of Q over `front`, in the lanes of `wanted`."""
    b = x + 1.0 - a
    d = 1.0 / b

    def going(state: list[Num[V]]) -> Num[V]:
        change, n = state[4], state[5]
        return wanted & ((change - 1.0).abs() > 1e-16) & (n < float(MOST_STEPS))

    def step(state: list[Num[V]]) -> list[Num[V]]:
        b, c, d, value, _, n = state
        run, n_next = going(state), n + 1.0
        factor = n_next * (a - n_next)
        b_next = b + 2.0
        bottom = factor * d + b_next
        d_next = 1.0 / where(bottom.equals(0.0), TINY, bottom)
        c_next = b_next + factor / c
        c_next = where(c_next.equals(0.0), TINY, c_next)
        change = c_next * d_next
        following = [b_next, c_next, d_next, value * change, change, n_next]
        return [where(run, new, old) for new, old in zip(following, state, strict=True)]

    start = [b, a.of(1e300), d, d, a.of(2.0), a.of(0.0)]
    return repeat(start, going, step)[3]


def _both(a: Num[V], x: Num[V]) -> tuple[Num[V], Num[V]]:
    """P and Q."""
    infinity = float("inf")
    bad = ~((a >= 0.0) & (x >= 0.0)) | (a.equals(0.0) & x.equals(0.0))
    bad = bad | (a.equals(infinity) & x.equals(infinity))
    zero = x.equals(0.0) | a.equals(infinity)
    one = a.equals(0.0) | x.equals(infinity)
    usual = ~(bad | zero | one)
    a, x = where(usual, a, 1.0), where(usual, x, 1.0)
    below = x < a + 1.0
    front = _front(a, x)
    lower = front * _series(a, x, below)
    upper = front * _fraction(a, x, ~below)
    p, q = where(below, lower, 1.0 - upper), where(below, 1.0 - lower, upper)
    p, q = where(zero, 0.0, p), where(zero, 1.0, q)
    p, q = where(one, 1.0, p), where(one, 0.0, q)
    return where(bad, float("nan"), p), where(bad, float("nan"), q)


def igamma(a: Num[V], x: Num[V]) -> Num[V]:
    """The lower function `P(a, x)`; NaN for negative operands."""
    return _both(a, x)[0]


def igammac(a: Num[V], x: Num[V]) -> Num[V]:
    """The upper function `Q(a, x) = 1 - P(a, x)`."""
    return _both(a, x)[1]
