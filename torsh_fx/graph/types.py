"""Types of inputs as users write them: `f32[batch, 784]`, with bounds `f32[batch: 1..64, 784]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import Attribute

from torsh_dialect.dims import Bounds, Dim, parse_dim
from torsh_dialect.dtypes import dtype_named, dtype_of_numpy
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.types import tensor

__all__ = ["Bounds", "parse_type", "type_of_example"]

_FORM = re.compile(r"\s*(\w+)\s*\[(.*)\]\s*")
_BOUND = re.compile(r"(.+?)\s*:\s*(\d+)\s*\.\.\s*(\d*)")


def parse_type(type: str | Attribute, bounds: dict[str, Bounds]) -> Attribute:
    """The tensor type that a text stands for; bounds of symbols go into `bounds`.

    Raises:
        InvalidArgumentError: The text has another form, or an unknown dtype.
    """
    if not isinstance(type, str):
        return type
    matched = _FORM.fullmatch(type)
    if matched is None:
        raise InvalidArgumentError(
            f"{type!r} is no type; write e.g. f32[2, 3], f32[batch, 784] or f32[batch: 1..64, 3]"
        )
    element = dtype_named(matched[1]).element
    parts = [part.strip() for part in matched[2].split(",") if part.strip()]
    return tensor(element, [_extent(part, bounds) for part in parts])


def _extent(part: str, bounds: dict[str, Bounds]) -> Dim:
    bounded = _BOUND.fullmatch(part)
    if bounded is None:
        dim = parse_dim(part)
        for name in () if isinstance(dim, int) else dim.symbols():
            bounds.setdefault(name, (0, None))
        return dim
    dim = parse_dim(bounded[1])
    bounds[str(dim)] = (int(bounded[2]), int(bounded[3]) if bounded[3] else None)
    return dim


def type_of_example(value: Any) -> Attribute:
    """The type of an example input: a numpy array, torch tensor or number.

    Raises:
        InvalidArgumentError: No element type holds its dtype.
    """
    if type(value).__module__.partition(".")[0] == "torch":
        name = str(value.dtype).removeprefix("torch.")
        renamed = {"bfloat16": "bf16", "float32": "f32", "float64": "f64", "float16": "f16"}
        renamed |= {"uint8": "ui8", "complex64": "c64", "complex128": "c128", "bool": "bool"}
        known = renamed.get(name, name.replace("int", "i"))
        return tensor(dtype_named(known).element, [int(n) for n in value.shape])
    array = np.asarray(value)
    return tensor(dtype_of_numpy(array.dtype).element, array.shape)


def types_of_examples(values: Sequence[Any]) -> list[Attribute]:
    """The types of several example inputs."""
    return [type_of_example(value) for value in values]
