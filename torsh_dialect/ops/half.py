"""What the numpy references of ops share: half precision is computed in f32 and rounded once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import TensorOp
from torsh_dialect.types import element_type

_WIDE: dict[np.dtype[np.generic], type[np.generic]] = {
    np.dtype(np.float16): np.float32,
    np.dtype(ml_dtypes.bfloat16): np.float32,
    np.dtype(ml_dtypes.float8_e4m3fn): np.float32,
    np.dtype(ml_dtypes.float8_e4m3fnuz): np.float32,
    np.dtype(ml_dtypes.float8_e5m2): np.float32,
    np.dtype(ml_dtypes.float8_e5m2fnuz): np.float32,
    np.dtype(ml_dtypes.float8_e8m0fnu): np.float32,
    np.dtype(ml_dtypes.float4_e2m1fn): np.float32,
    np.dtype(ml_dtypes.float6_e2m3fn): np.float32,
    np.dtype(ml_dtypes.float6_e3m2fn): np.float32,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.uint2): np.uint8,
    np.dtype(ml_dtypes.uint4): np.uint8,
}


def widened(array: Array) -> Array:
    """Half and smaller floats as f32, sub-byte integers as bytes; others as they are."""
    wide = _WIDE.get(array.dtype)
    return array if wide is None else array.astype(wide)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`np.where` with one signature, which its overloads in numpy's stubs lack."""
    choose: Any = np.where
    return choose(condition, a, b)


def rounded_once(
    evaluate: Callable[..., Sequence[Array]],
) -> Callable[..., Sequence[Array]]:
    """Decorate `evaluate`: operands are widened, results cast once to the op's result types.

    Floating-point warnings are off inside; a result may be a numpy scalar or broadcast view.
    """

    @functools.wraps(evaluate)
    def evaluated(self: TensorOp, *args: Array) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            values = evaluate(self, *map(widened, args))
            types = [dtype_of(element_type(result)).numpy for result in self.results]
            return tuple(
                np.asarray(value).astype(dtype, copy=False)
                for value, dtype in zip(values, types, strict=True)
            )

    return evaluated
