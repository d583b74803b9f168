"""Operands of sample calls, and short ways to write the calls down."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from samples_nn import Sample

from torsh_dialect.declare import OPS

BY_NAME = {op.name.removeprefix("torsh."): op for op in OPS}
RNG = np.random.default_rng(3)
INF, NAN = np.inf, np.nan


def real(*shape, dtype=np.float32):
    return RNG.normal(0, 2, shape).astype(dtype)


def whole(low, high, *shape, dtype=np.int64):
    return RNG.integers(low, high, shape).astype(dtype)


EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e-8, -1e-8, 7.25, -7.75, 30.0, INF, -INF, NAN]
)
FLOATS = [
    EDGES.astype(np.float32),
    EDGES,
    EDGES.astype(np.float16),
    EDGES.astype(ml_dtypes.bfloat16),
    np.float32(0.75).reshape(()),
    np.zeros((0, 3), np.float32),
    real(2, 3),
]
INTS = [
    np.array([0, 1, -1, 2, -2, 7, -7, 127, -128], np.int8),
    whole(-50, 50, 2, 3, dtype=np.int32),
    np.array([0, 1, -1, 5, -5, 2**62, -(2**63)], np.int64),
    np.array([0, 1, 2, 255], np.uint8),
]
BOOLS = [np.array([True, False, True])]
COMPLEX = [(real(2, 3) + 1j * real(2, 3)).astype(np.complex64), np.zeros(0, np.complex128)]


def pairs(arrays):
    """Each array with itself turned round, and broadcast against one of its elements."""
    for a in arrays:
        flat = a.reshape(-1)
        yield a, np.roll(flat, 3).reshape(a.shape)
        if flat.size > 2:
            yield a, flat[1].reshape(())
            yield flat[:4].reshape(-1, 1), flat[1:5]


def unary(names, arrays, **properties):
    return [Sample(BY_NAME[name], (a,), properties) for name in names.split() for a in arrays]


def binary(names, arrays, **properties):
    return [Sample(BY_NAME[n], ab, properties) for n in names.split() for ab in pairs(arrays)]


def one(name, *operands, **properties):
    return Sample(BY_NAME[name], operands, properties)


POSITIVE = [np.abs(a) for a in FLOATS if a.dtype.itemsize > 2]
MODERATE = [
    np.array([-20.5, -3.25, -1.5, -0.75, -0.2, 0.0, 0.3, 1.0, 2.5, 9.75, NAN]),
    np.float32(1.25).reshape(()),
    real(2, 3),
    np.zeros((0,), np.float32),
    np.array([0.5, 2.0, -0.5], np.float16),
]
