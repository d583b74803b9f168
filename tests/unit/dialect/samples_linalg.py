"""Sample calls of linear algebra."""

from __future__ import annotations

import numpy as np
from sample_data import (
    one,
    real,
    unary,
)


def _linalg():
    a = real(2, 3, 3)
    positive = a @ np.swapaxes(a, -1, -2) + np.eye(3, dtype=np.float32)
    hermitian = (positive[0] + 1j * (a[0] - a[0].T)).astype(np.complex64) + 9 * np.eye(3)
    hermitian = hermitian.astype(np.complex64)
    wide, tall = real(2, 4), real(4, 2)
    return [
        *unary("cholesky", [positive, hermitian, -positive, np.zeros((0, 3, 3))]),
        *unary("cholesky", [positive], upper=True),
        *unary("lu", [a, wide, tall, np.zeros((2, 2), np.float32), hermitian]),
        *unary("qr", [a, wide, tall]),
        *unary("qr", [tall], complete=True),
        *unary("qr_reflections", [a, wide, tall]),
        *unary("ldl", [a, np.zeros((2, 2), np.float32)]),
        *unary("ldl", [hermitian], hermitian=True),
        one("ldl_solve", positive, np.array([[2, 2, 3], [-3, -3, 3]], np.int32), real(2, 3, 2)),
        one("ldl_solve", hermitian, np.array([1, -3, -3], np.int32), hermitian, hermitian=True),
        *unary("svd", [a, wide, tall]),
        *unary("svd", [wide], full=True),
        *unary("eigh", [positive, hermitian]),
        *unary("eigh", [positive], upper=True),
        *unary("eig", [a, a.astype(np.float64)]),
        one("triangular_solve", positive, real(2, 3, 2), upper=False),
        one("triangular_solve", positive, real(3, 1), upper=True),
        one("triangular_solve", positive, real(2, 3, 2), upper=True, unit=True),
    ]


SAMPLES = [
    *_linalg(),
]
