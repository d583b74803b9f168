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

SerializationError = ImportModelError
"""The guide's name for a file or text that cannot be read back."""

__all__ = [
    "CacheError",
    "CodegenError",
    "ExecutionError",
    "ImportModelError",
    "InputError",
    "InvalidArgument",
    "InvalidArgumentError",
    "PassError",
    "SerializationError",
    "ShapeError",
    "TorshError",
    "UnboundParameterError",
    "UnsupportedError",
    "UnsupportedFormat",
    "UnsupportedFormatError",
    "ValidationError",
    "VerificationError",
]
