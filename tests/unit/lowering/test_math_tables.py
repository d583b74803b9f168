"""Where the coefficients of `lowering.math.tables` come from, and that they are those.

Each row is a function, an interval, a degree and a type. The polynomial is the weighted least
squares fit on Chebyshev points in 60-digit arithmetic, which is within a factor of two of the
minimax polynomial. `python tests/unit/lowering/test_math_tables.py` writes the file again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp, mpf

from lowering.math import tables

Function = Callable[[mpf], mpf]

mp.dps = 60


@dataclass(frozen=True)
class Row:
    g: Function
    lo: float
    hi: float
    degree: int
    kind: str = "f64"
    weight: Function = lambda x: mpf(1)


def fit(row: Row) -> list[float]:
    """Coefficients in ascending order, rounded to the row's type."""
    mp.dps = 60
    count = 3 * (row.degree + 1) | 1
    lo, hi = mpf(row.lo), mpf(row.hi)
    angles = [mp.pi * (2 * i + 1) / (2 * (count + 1)) for i in range(count + 1)]
    points = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(a) for a in angles]
    scale = max(abs(lo), abs(hi))
    matrix = mp.matrix(len(points), row.degree + 1)
    right = mp.matrix(len(points), 1)
    for i, x in enumerate(points):
        power = row.weight(x)
        right[i] = row.g(x) * power
        for j in range(row.degree + 1):
            matrix[i, j] = power
            power *= x / scale
    transposed = matrix.T
    solution = mp.lu_solve(transposed * matrix, transposed * right)
    round_to = float if row.kind == "f64" else lambda c: float(np.float32(float(c)))
    return [round_to(solution[j] / scale**j) for j in range(row.degree + 1)]


def of_square(f: Function) -> Function:
    """`f` as a function of the square of its argument."""
    return lambda z: f(mp.sqrt(z))


def stirling(w: mpf) -> mpf:
    x = 1 / mp.sqrt(w)
    return (mp.loggamma(x) - (x - 0.5) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x


def digamma_tail(w: mpf) -> mpf:
    x = 1 / mp.sqrt(w)
    return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / w


def erfcx_scaled(t: mpf) -> mpf:
    """`(1 + 2x) exp(x^2) erfc(x)` at `t = (x - 4) / (x + 4)`."""
    x = 4 * (1 + t) / (1 - t)
    if x > 1000:
        w = 1 / (2 * x * x)
        return (1 + 2 * x) / (x * mp.sqrt(mp.pi)) * (1 - w + 3 * w**2 - 15 * w**3 + 105 * w**4)
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


def erfinv_of_log(w: mpf) -> mpf:
    """`erfinv(x) / x` where `w = -log(1 - x^2)`."""
    if w == 0:
        return mp.sqrt(mp.pi) / 2
    x = mp.sqrt(-mp.expm1(-w))
    with mp.extradps(30):
        return mp.erfinv(x) / x


def ndtri_tail(s: mpf) -> mpf:
    """`s - x` where `erfc(x / sqrt 2) / 2 = exp(-s^2 / 2)`."""
    target = -s * s / 2

    def gap(x: mpf) -> mpf:
        return mp.log(mp.erfc(x / mp.sqrt(2)) / 2) - target

    with mp.extradps(20):
        return s - mp.findroot(gap, s - mp.log(s * s * 2 * mp.pi) / (2 * s), tol=mpf(10) ** -90)


def hankel(order: int, part: str) -> Function:
    """P or Q x of the large-argument form of Bessel functions, at `w = (8 / x)^2`."""

    def at(w: mpf) -> mpf:
        x = 8 / mp.sqrt(w)
        chi = x - mp.pi / 4 - order * mp.pi / 2
        j, y, root = mp.besselj(order, x), mp.bessely(order, x), mp.sqrt(mp.pi * x / 2)
        if part == "p":
            return root * (j * mp.cos(chi) + y * mp.sin(chi))
        return root * (y * mp.cos(chi) - j * mp.sin(chi)) * x

    return at


def y0_regular(x: mpf) -> mpf:
    return mp.bessely(0, x) - 2 / mp.pi * mp.log(x) * mp.besselj(0, x)


def y1_regular(x: mpf) -> mpf:
    return (mp.bessely(1, x) - 2 / mp.pi * (mp.log(x) * mp.besselj(1, x) - 1 / x)) / x


def airy_scaled(w: mpf) -> mpf:
    """`2 sqrt(pi) x^(1/4) exp(zeta) Ai(x)` at `w = 1 / zeta`, `zeta = 2/3 x^(3/2)`."""
    zeta = 1 / w
    x = (3 * zeta / 2) ** (mpf(2) / 3)
    return 2 * mp.sqrt(mp.pi) * mp.sqrt(mp.sqrt(x)) * mp.exp(zeta) * mp.airyai(x)


def airy_wave(part: str) -> Function:
    """P or Q zeta of `sqrt(pi) x^(1/4) Ai(-x) = P sin(t) - Q cos(t)`, `t = zeta + pi/4`, at
    `w = 1 / zeta^2`."""

    def at(w: mpf) -> mpf:
        zeta = 1 / mp.sqrt(w)
        x = (3 * zeta / 2) ** (mpf(2) / 3)
        root = mp.sqrt(mp.pi) * mp.sqrt(mp.sqrt(x))
        a, b, t = root * mp.airyai(-x), root * mp.airybi(-x), zeta + mp.pi / 4
        if part == "p":
            return a * mp.sin(t) + b * mp.cos(t)
        return (b * mp.sin(t) - a * mp.cos(t)) * zeta

    return at


def bessel_k(order: int, w: mpf) -> mpf:
    """`sqrt(x) exp(x) K(x)` at `w = 1 / x`."""
    return mp.sqrt(1 / w) * mp.exp(1 / w) * mp.besselk(order, 1 / w)


LN2_HALF = 0.3466
ATAN_END, LOG_END, PIO4_SQUARED = 0.1716, 0.02945, 0.617
ROOT = mpf("1.46163214496836234126265954232572132846819620400644629512959")

ROWS: dict[str, Row] = {
    "EXP_F32": Row(lambda r: (mp.expm1(r) - r) / r**2, -LN2_HALF, LN2_HALF, 5, "f32"),
    "EXP_F64": Row(lambda r: (mp.expm1(r) - r) / r**2, -LN2_HALF, LN2_HALF, 10),
    "LOG_F32": Row(of_square(lambda s: (2 * mp.atanh(s) / s - 2) / s**2), 0, LOG_END, 3, "f32"),
    "LOG_F64": Row(of_square(lambda s: (2 * mp.atanh(s) / s - 2) / s**2), 0, LOG_END, 7),
    "LOG_TAIL": Row(
        of_square(lambda s: (2 * mp.atanh(s) / s - 2 - 2 * s**2 / 3) / s**4), 0, LOG_END, 8
    ),
    "SIN_F32": Row(of_square(lambda x: (mp.sin(x) / x - 1) / x**2), 0, PIO4_SQUARED, 3, "f32"),
    "SIN_F64": Row(of_square(lambda x: (mp.sin(x) / x - 1) / x**2), 0, PIO4_SQUARED, 6),
    "COS_F32": Row(
        of_square(lambda x: (mp.cos(x) - 1 + x**2 / 2) / x**4), 0, PIO4_SQUARED, 2, "f32"
    ),
    "COS_F64": Row(of_square(lambda x: (mp.cos(x) - 1 + x**2 / 2) / x**4), 0, PIO4_SQUARED, 6),
    "ATAN": Row(of_square(lambda x: (mp.atan(x) / x - 1) / x**2), 0, ATAN_END, 12),
    "ASIN": Row(of_square(lambda x: (mp.asin(x) / x - 1) / x**2), 0, 0.25, 13),
    "TANH_F32": Row(of_square(lambda x: (mp.tanh(x) / x - 1) / x**2), 0, 0.3026, 4, "f32"),
    "ERF_F32": Row(of_square(lambda x: mp.erf(x) / x - 1), 0, 0.861, 6, "f32"),
    "ERF_F64": Row(of_square(lambda x: mp.erf(x) / x - 1), 0, 1, 13),
    "LOG_ERFC_F32": Row(
        lambda x: mp.log(mp.erfc(x)) / x, 0.927, 4, 6, "f32", lambda x: x * mp.erfc(x)
    ),
    "ERFCX": Row(erfcx_scaled, -1, 0.9999999, 24),
    "ERFINV_CENTRAL": Row(lambda v: erfinv_of_log(v + 3.125), -3.125, 3.125, 22),
    "ERFINV_MIDDLE": Row(lambda v: erfinv_of_log((v + 3.25) ** 2), -0.75, 0.75, 18),
    "ERFINV_TAIL": Row(lambda v: erfinv_of_log((v + 5) ** 2), -1.01, 1.07, 17),
    "NDTRI_NEAR": Row(lambda v: ndtri_tail(v + 2.75), -1.1, 1.25, 21),
    "NDTRI_MIDDLE": Row(lambda v: ndtri_tail(v + 7), -3, 3, 22),
    "NDTRI_FAR": Row(lambda v: ndtri_tail(v + 14), -4, 5, 20),
    "NDTRI_LAST": Row(lambda v: ndtri_tail(v + 29), -10, 10, 20),
    "LGAMMA_2": Row(lambda e: mp.loggamma(2 + e) / e, -0.5, 0.5, 20),
    "RGAMMA_2": Row(lambda e: mp.rgamma(2 + e), -0.5, 0.5, 15),
    "STIRLING": Row(stirling, 0.00001, 1 / 64, 7),
    "DIGAMMA_15": Row(lambda e: mp.digamma(1.5 + e) / (1.5 + e - ROOT), -0.5, 0.5, 21),
    "DIGAMMA_TAIL": Row(digamma_tail, 0.00001, 1 / 64, 7),
    "J0_NEAR": Row(of_square(lambda x: mp.besselj(0, x)), 0, 9, 12),
    "J0_MIDDLE": Row(lambda t: mp.besselj(0, mp.sqrt(t + 36)), -27.1, 28, 16),
    "J1_NEAR": Row(of_square(lambda x: mp.besselj(1, x) / x), 0, 9, 12),
    "J1_MIDDLE": Row(lambda t: mp.besselj(1, mp.sqrt(t + 36)) / mp.sqrt(t + 36), -27.1, 28, 16),
    "Y0_NEAR": Row(of_square(y0_regular), 0, 9, 13),
    "Y0_MIDDLE": Row(lambda t: y0_regular(mp.sqrt(t + 36)), -27.1, 28, 17),
    "Y1_NEAR": Row(of_square(y1_regular), 0, 9, 13),
    "Y1_MIDDLE": Row(lambda t: y1_regular(mp.sqrt(t + 36)), -27.1, 28, 17),
    "P0": Row(hankel(0, "p"), 0.000001, 1, 14),
    "Q0": Row(hankel(0, "q"), 0.000001, 1, 14),
    "P1": Row(hankel(1, "p"), 0.000001, 1, 14),
    "Q1": Row(hankel(1, "q"), 0.000001, 1, 14),
    "I0_NEAR": Row(
        of_square(lambda x: mp.besseli(0, x)), 0, 64, 20, "f64", of_square(lambda x: mp.exp(-x))
    ),
    "I1_NEAR": Row(
        of_square(lambda x: mp.besseli(1, x) / x), 0, 64, 20, "f64", of_square(lambda x: mp.exp(-x))
    ),
    "K0_NEAR": Row(
        of_square(lambda x: mp.besselk(0, x) + mp.log(x) * mp.besseli(0, x)), 0, 1, 8
    ),
    "K1_NEAR": Row(
        of_square(lambda x: (mp.besselk(1, x) - mp.log(x) * mp.besseli(1, x) - 1 / x) / x), 0, 1, 8
    ),
    "K0_MIDDLE": Row(lambda v: bessel_k(0, v + 2 / 3), -1 / 3, 1 / 3, 19),
    "K1_MIDDLE": Row(lambda v: bessel_k(1, v + 2 / 3), -1 / 3, 1 / 3, 19),
    "K0_FAR": Row(lambda v: bessel_k(0, v + 1 / 6), -0.1666, 1 / 6, 19),
    "K1_FAR": Row(lambda v: bessel_k(1, v + 1 / 6), -0.1666, 1 / 6, 19),
    "I0_FAR": Row(
        lambda t: mp.sqrt(16 / (t + 1)) * mp.exp(-16 / (t + 1)) * mp.besseli(0, 16 / (t + 1)),
        -0.9999, 1, 22,
    ),
    "I1_FAR": Row(
        lambda t: mp.sqrt(16 / (t + 1)) * mp.exp(-16 / (t + 1)) * mp.besseli(1, 16 / (t + 1)),
        -0.9999, 1, 22,
    ),
    "AIRY_BELOW": Row(lambda t: mp.airyai(t - 2.875), -1.63, 1.63, 23),
    "AIRY_ABOVE": Row(lambda t: mp.airyai(t + 0.375), -1.63, 1.63, 23),
    "AIRY_MIDDLE": Row(lambda v: airy_scaled(v + 0.35), -0.1834, 0.1810, 17),
    "AIRY_FAR": Row(lambda v: airy_scaled(v + 1 / 12), -0.0833, 1 / 12, 17),
    "AIRY_P": Row(airy_wave("p"), 0.000001, 0.025, 12),
    "AIRY_Q": Row(airy_wave("q"), 0.000001, 0.025, 12),
}  # fmt: skip

FAST = [
    name
    for name, row in ROWS.items()
    if name[:4] not in ("ERFI", "NDTR", "I0_F", "I1_F", "K0_F", "K1_F", "AIRY")
]


@pytest.mark.parametrize("name", FAST)
def test_table_is_the_fit(name: str) -> None:
    assert list(getattr(tables, name)) == fit(ROWS[name])


HEADER = '''"""Polynomial coefficients in ascending order, written by `test_math_tables.py`.

Each row of that file says which function a table approximates, where, and how it was fitted.
"""

'''


def write() -> None:
    lines: list[str] = []
    for name, row in ROWS.items():
        entries = "".join(f"    {c!r},\n" for c in fit(row))
        lines.append(f"{name} = (\n{entries})\n")
    Path(tables.__file__).write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    write()
