"""numpy dtypes of the names in a program specification, without xDSL.

`torsh_dialect.dtypes` is the table of meanings; a test holds the two together. ml_dtypes is loaded
only for a program that uses one of its types.
"""

from functools import cache

import numpy as np

from torsh_dialect.errors import InvalidArgumentError

_NUMPY = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "bool": "bool",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "ui8": "uint8",
    "ui16": "uint16",
    "ui32": "uint32",
    "ui64": "uint64",
    "c64": "complex64",
    "c128": "complex128",
}
_ML_DTYPES = {
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
    "f8e8m0fnu": "float8_e8m0fnu",
    "f4e2m1fn": "float4_e2m1fn",
    "f6e2m3fn": "float6_e2m3fn",
    "f6e3m2fn": "float6_e3m2fn",
    "i2": "int2",
    "i4": "int4",
    "ui2": "uint2",
    "ui4": "uint4",
}
DTYPE_NAMES = (*_NUMPY, *_ML_DTYPES)
"""Every dtype that an array of a call can have."""


@cache
def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The numpy dtype that holds elements of dtype `name`.

    Raises:
        InvalidArgumentError: No array holds such elements.
    """
    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    if name in _ML_DTYPES:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
    raise InvalidArgumentError(f"dtype {name!r} has no array form; known: {', '.join(DTYPE_NAMES)}")
