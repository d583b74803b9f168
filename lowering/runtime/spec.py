"""What a compiled program is, as data: its signature, checks, weights and kernels.

A `ProgramSpec` is all that the runtime knows of a program beside its objects and weight bytes. It
goes through JSON unchanged. Extents are integers or expressions over symbols (`2*h + 1`), in the
syntax of `torsh_dialect.dims`; dtypes have the names of `torsh_dialect.dtypes`.
"""

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from lowering.runtime.abi import ABI_VERSION
from torsh_dialect.errors import ExecutionError, InvalidArgumentError

FORMAT_VERSION = 1

Array = NDArray[Any]
Extent = int | str
T = TypeVar("T")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output.

    Attributes:
        name: The user's name of it.
        dtype: Element type.
        dims: Extents.
        data_dependent: An output whose extents are known only when it is computed: the program
            asks the host for its memory.
        layout: The order of the axes in memory, outermost first; empty for row-major.
    """

    name: str
    dtype: str
    dims: tuple[Extent, ...] = ()
    data_dependent: bool = False
    layout: tuple[int, ...] = ()

    def in_memory(self, array: "Array") -> "Array":
        """An array of this tensor's axes as the program sees its memory; never a copy."""
        return array.transpose(self.layout) if self.layout else array

    def shape_in_memory(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The extents of such an array as the program sees its memory."""
        ordered = self.layout if len(self.layout) == len(shape) else range(len(shape))
        return tuple(shape[axis] for axis in ordered)

    def logical(self, array: "Array") -> "Array":
        """What the program sees, with this tensor's axes in order; never a copy."""
        return array.transpose(self.axes) if self.layout else array

    @property
    def axes(self) -> tuple[int, ...]:
        """For each axis, where it stands in memory."""
        return tuple(map(self.layout.index, range(len(self.dims))))


@dataclass(frozen=True)
class SymbolSpec:
    """A symbol and the closed range that its value must lie in; `upper` None: no bound."""

    name: str
    lower: int = 0
    upper: int | None = None


@dataclass(frozen=True)
class CheckSpec:
    """What status `index + 1` of a program means.

    Attributes:
        kind: `input` (becomes `InputError`) or `execution` (`ExecutionError`).
        message: `str.format` text with `{0}` to `{3}` for the words that the program left in
            `error`; braces of the user's names are doubled.
        location: Where in the user's model, or empty.
    """

    kind: str
    message: str
    location: str = ""


@dataclass(frozen=True)
class EntrySpec:
    """One function of a program.

    Attributes:
        name: `main`, the name of a method, or `prepare`.
        symbol: Prefix of the native functions: `torsh` means `torsh_plan` and `torsh_run`.
        inputs: Inputs in order.
        outputs: Outputs in order.
        symbols: Bounds of the symbols in extents; one that is missing here is unbounded.
        checks: What a non-zero status means.
        scratch_bytes: Memory behind the arena for each thread, a multiple of 64.
        allocates: Whether it asks the host for memory of its own while it runs.
        in_place: Pairs of an input and an output that may be the same memory in a call: the
            program reads the input for the last time before it writes the output.
    """

    name: str = "main"
    symbol: str = "torsh"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    symbols: tuple[SymbolSpec, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    scratch_bytes: int = 0
    allocates: bool = False
    in_place: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class WeightSpec:
    """A prepared weight: SHA-256 (hex) of its bytes, and where they begin in the weights file."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    digest: str = ""
    offset: int = 0


@dataclass(frozen=True)
class KernelSpec:
    """A kernel's symbol and the source ops (names with locations) that it computes."""

    name: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramSpec:
    """A compiled program without its code and weights.

    Attributes:
        entries: Functions; the weights are shared by all.
        weights: Prepared weights in the order of the call record.
        kernels: For profiles and error messages.
        host_symbols: Symbols that objects import beyond memcpy, memset and memmove.
        target: Name of the target that the objects are for.
        abi_version: `abi.ABI_VERSION` of the compiler.
        format_version: `FORMAT_VERSION` of the compiler.
    """

    entries: tuple[EntrySpec, ...]
    weights: tuple[WeightSpec, ...] = ()
    kernels: tuple[KernelSpec, ...] = ()
    host_symbols: tuple[str, ...] = ()
    target: str = ""
    abi_version: int = ABI_VERSION
    format_version: int = FORMAT_VERSION

    def entry(self, name: str = "main") -> EntrySpec:
        """The function called `name`.

        Raises:
            InvalidArgumentError: There is none; the message lists those there are.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        raise InvalidArgumentError(f"the program has no entry {name!r}; it has: {known}")

    def to_json(self) -> str:
        """The specification as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str | bytes) -> "ProgramSpec":
        """Read what `to_json` wrote.

        Raises:
            ExecutionError: The text is damaged, or of another format or ABI version.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ExecutionError(f"the program specification is no JSON: {error}") from None
        if not isinstance(data, dict):
            raise ExecutionError("the program specification is not a JSON object")
        given = typing.cast(dict[str, object], data)
        for key, ours in (("format_version", FORMAT_VERSION), ("abi_version", ABI_VERSION)):
            if given.get(key) != ours:
                raise ExecutionError(
                    f"the program has {key} {given.get(key)!r}, this runtime {ours}; "
                    "compile the model again"
                )
        return _decode(ProgramSpec, given, "program")


def _decode(kind: type[T], data: object, where: str) -> T:
    """Build dataclass `kind` from JSON data; unknown, missing and ill-typed fields are refused."""
    if not isinstance(data, Mapping):
        raise ExecutionError(f"{where} is not a JSON object")
    given = typing.cast(Mapping[str, object], data)
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name in given:
        if name not in known:
            raise ExecutionError(f"{where} has an unknown field {name!r}")
    for name, spec in known.items():
        if name not in given and spec.default is MISSING:
            raise ExecutionError(f"{where} lacks the field {name!r}")
    values = {n: _decode_value(hints[n], v, f"{where}.{n}") for n, v in given.items()}
    return kind(**values)


def _decode_value(hint: Any, value: object, where: str) -> object:
    if is_dataclass(hint) and isinstance(hint, type):
        return _decode(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ExecutionError(f"{where} is not a list")
        item = typing.get_args(hint)[0]
        items = typing.cast(list[object], value)
        return tuple(_decode_value(item, v, f"{where}[{i}]") for i, v in enumerate(items))
    union = isinstance(hint, types.UnionType)
    allowed = typing.cast(tuple[type, ...], typing.get_args(hint) if union else (hint,))
    if type(value) not in allowed:
        names = " or ".join(one.__name__ for one in allowed)
        raise ExecutionError(f"{where} is {value!r}, which is not {names}")
    return value
