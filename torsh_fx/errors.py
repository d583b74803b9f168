"""The errors of the compiler, under one name each; `TorshError` is their root."""

from __future__ import annotations

from torsh_dialect.errors import (
    CacheError,
    CodegenError,
    ExecutionError,
    ImportModelError,
    InputError,
    InvalidArgumentError,
    PassError,
    ShapeError,
    TorshError,
    UnboundParameterError,
    UnsupportedError,
    UnsupportedFormatError,
    ValidationError,
    VerificationError,
)

UnsupportedFormat = UnsupportedFormatError
"""The guide's name."""

InvalidArgument = InvalidArgumentError
"""The guide's name."""

__all__ = [
    "CacheError",
    "CodegenError",
    "ExecutionError",
    "ImportModelError",
    "InputError",
    "InvalidArgument",
    "InvalidArgumentError",
    "PassError",
    "ShapeError",
    "TorshError",
    "UnboundParameterError",
    "UnsupportedError",
    "UnsupportedFormat",
    "UnsupportedFormatError",
    "ValidationError",
    "VerificationError",
]
