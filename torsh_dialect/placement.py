"""Where results are: the one place in which devices spread from operands to results.

`infer` of an op knows nothing of devices and layouts. What it gives is completed here: results
are on the device of the operands, which must be one, and row-major. A scalar on the CPU goes with
tensors anywhere: it is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, SSAValue

from torsh_dialect.driver import words_of
from torsh_dialect.encodings import joined_device
from torsh_dialect.errors import DeviceError
from torsh_dialect.types import (
    OptionalType,
    SequenceType,
    device_of,
    is_stored,
    layout_of,
    rank_of,
    with_storage,
)


def placed(
    operands: Sequence[SSAValue], inferred: Sequence[Attribute], location: LocationAttr
) -> Sequence[Attribute]:
    """The result types of an op on the device of its operands.

    Raises:
        DeviceError: The operands are on different devices.
    """
    stored = [v for v in operands if is_stored(v.type)]
    if not stored:
        return inferred
    moving = [v for v in stored if device_of(v) != "cpu" or rank_of(v) > 0] or stored
    device: str | None = None
    try:
        for value in moving:
            device = joined_device(device, device_of(value))
    except DeviceError as error:
        error.place(words_of(location))
        raise
    return [_on(type, device) for type in inferred]


def _on(type: Attribute, device: str | None) -> Attribute:
    match type:
        case SequenceType():
            return SequenceType(_on(type.item, None))  # the host's Python holds the items
        case OptionalType():
            return OptionalType(_on(type.item, None))
        case _ if not hasattr(type, "encoding"):
            return type
        case _:
            return with_storage(type, None, device)


def row_major(type: Attribute) -> Attribute:
    """A type without its layout; any type."""
    if not is_stored(type) or layout_of(type) is None:
        return type
    return with_storage(type, None, device_of(type))


def logical(type: Attribute) -> Attribute:
    """A type without layout and device; any type."""
    return with_storage(type, None, None) if is_stored(type) else type
