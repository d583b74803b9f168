"""Epilogues: what happens to a result vector between accumulation and store."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lowering.cpu.text import Text, Value, element_of, lanes_of


class EpilogueBody(Protocol):
    """Maps one vector of results; called once per vector, inside the kernel's text."""

    def __call__(
        self,
        text: Text,
        type: str,
        value: Value,
        row: Value,
        column: Value,
        lanes: int,
        mask: Value | None,
        /,
    ) -> Value:
        """Return the vector to store.

        Args:
            text: The function being written.
            type: LLVM type of `value`, e.g. `<8 x float>`.
            value: The accumulated vector.
            row: i64, flat row of the result (flat pixel for convolutions).
            column: i64, first column of the vector.
            lanes: Lanes of the type.
            mask: Mask of the lanes that are stored, None where all are; the others may hold
                anything, and memory beside them must not be read.
        """
        ...


def _unchanged(text: Text) -> EpilogueBody:
    return lambda text, type, value, row, column, lanes, mask: value


@dataclass(frozen=True)
class Epilogue:
    """A named epilogue.

    Attributes:
        description: What it does, for dumps and structural keys; equal text means equal code.
        begin: Called once at the function's start, loads pointers; returns the body.
        element: LLVM element type of what is stored, if not that of the accumulators.
        operations: Floating-point operations per element.
    """

    description: str = "none"
    begin: Callable[[Text], EpilogueBody] = field(default=_unchanged, compare=False, repr=False)
    element: str | None = None
    operations: int = 0


IDENTITY = Epilogue()


@dataclass(frozen=True)
class Hooks:
    """Fused code around a template.

    Attributes:
        epilogue: Applied to results before the store.
        prologue: Applied to loaded elements of the first operand, by templates over rows.
    """

    epilogue: Epilogue | None = None
    prologue: Epilogue | None = None


def float_literal(value: float, element: str = "float") -> str:
    """`value` as LLVM spells a constant of `element`, rounded to it, bit for bit."""
    if element == "float":
        value = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def constant(type: str, value: float) -> str:
    """A scalar or vector constant of `type` with all lanes `value`."""
    element = element_of(type)
    literal = float_literal(value, element)
    return f"splat ({element} {literal})" if type.startswith("<") else literal


def mask_of(lanes: int, valid: int) -> Value | None:
    """Constant mask of the first `valid` of `lanes` lanes; None if that is all of them."""
    if valid >= lanes:
        return None
    return "<" + ", ".join(f"i1 {int(lane < valid)}" for lane in range(lanes)) + ">"


def dynamic_mask(text: Text, lanes: int, valid: Value) -> Value:
    """Mask of the first `valid` (i64, may be negative or more than `lanes`) lanes."""
    numbers = "<" + ", ".join(f"i64 {lane}" for lane in range(lanes)) + ">"
    type = f"<{lanes} x i64>"
    return text.let(f"icmp slt {type} {numbers}, {text.splat(type, valid)}", "mask")


def load_lanes(text: Text, type: str, address: Value, mask: Value | None) -> Value:
    """Load a vector, or its masked lanes with zero elsewhere."""
    if mask is None:
        return text.load(type, address)
    return text.masked_load(type, address, mask, "zeroinitializer")


def store_lanes(text: Text, type: str, value: Value, address: Value, mask: Value | None) -> None:
    """Store a vector, or its masked lanes."""
    if mask is None:
        text.store(type, value, address)
    else:
        text.masked_store(type, value, address, mask)


def relu(text: Text, type: str, value: Value) -> Value:
    """`max(value, 0)` that keeps NaN: zero only where the comparison with zero holds."""
    below = text.let(f"fcmp olt {type} {value}, {constant(type, 0.0)}", "c")
    return text.select(type, below, constant(type, 0.0), value)


def bias_residual_activation(
    *,
    bias: int | None = None,
    residual: int | None = None,
    residual_stride: int = 0,
    activation: str = "none",
) -> Epilogue:
    """`act(value + bias[column] + residual[row, column])`.

    Args:
        bias: Argument word of the bias pointer, None for no bias.
        residual: Argument word of the residual pointer, None for no residual.
        residual_stride: Elements between rows of the residual.
        activation: `none` or `relu`; richer ones are spliced in by fusion as own epilogues.
    """

    def begin(text: Text) -> EpilogueBody:
        base = None if bias is None else text.argument(bias, role="bias")
        other = None if residual is None else text.argument(residual, role="residual")

        def body(
            text: Text,
            type: str,
            value: Value,
            row: Value,
            column: Value,
            lanes: int,
            mask: Value | None,
        ) -> Value:
            element = element_of(type)
            if base is not None:
                addend = load_lanes(text, type, text.at(base, column, element), mask)
                value = text.binary("fadd", type, value, addend)
            if other is not None:
                place = text.add(text.mul(row, residual_stride), column)
                addend = load_lanes(text, type, text.at(other, place, element), mask)
                value = text.binary("fadd", type, value, addend)
            return relu(text, type, value) if activation == "relu" else value

        return body

    description = f"bias={bias} residual={residual}:{residual_stride} activation={activation}"
    operations = (bias is not None) + (residual is not None) + (activation == "relu")
    return Epilogue(description, begin, operations=operations)


def finish_vector(
    text: Text,
    epilogue: Epilogue,
    body: EpilogueBody,
    type: str,
    value: Value,
    row: Value,
    column: Value,
    mask: Value | None,
    address: Value,
) -> None:
    """Apply an epilogue to one vector and store it at `address`."""
    result = body(text, type, value, row, column, lanes_of(type), mask)
    stored = type if epilogue.element is None else f"<{lanes_of(type)} x {epilogue.element}>"
    store_lanes(text, stored, result, address, mask)
