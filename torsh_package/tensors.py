"""The tensors table of a resource: dtypes, bounds, aliases, and zero-copy numpy views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torsh_package.canonical_json import MAX_INTEGER, JsonObject, JsonValue, check_string
from torsh_package.errors import InvalidArgumentError, LimitError, ManifestError
from torsh_package.schema import Fields, integer

if TYPE_CHECKING:
    import numpy

ALIGNMENT = 64
MAX_RANK = 64

# Bits of one element. Types under 8 bits are packed, first element in the low bits.
DTYPE_BITS: Mapping[str, int] = {
    "bool": 8, "i4": 4, "i8": 8, "i16": 16, "i32": 32, "i64": 64,
    "ui4": 4, "ui8": 8, "ui16": 16, "ui32": 32, "ui64": 64,
    "f4e2m1fn": 4, "f8e4m3fn": 8, "f8e4m3fnuz": 8, "f8e4m3b11fnuz": 8, "f8e5m2": 8,
    "f8e5m2fnuz": 8, "f8e8m0fnu": 8, "f16": 16, "bf16": 16, "f32": 32, "f64": 64,
    "c64": 64, "c128": 128,
}  # fmt: skip

# numpy's spelling. Names that numpy itself lacks exist once `ml_dtypes` has been imported.
NUMPY_NAMES: Mapping[str, str] = {
    "bool": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "ui8": "uint8", "ui16": "uint16", "ui32": "uint32", "ui64": "uint64",
    "f16": "float16", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
    "bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e4m3b11fnuz": "float8_e4m3b11fnuz", "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0fnu": "float8_e8m0fnu",
}  # fmt: skip
_BY_NUMPY_NAME = {name: dtype for dtype, name in NUMPY_NAMES.items()}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor inside a resource's plain bytes.

    Attributes:
        name: Unique in its resource.
        dtype: A key of `DTYPE_BITS`; multi-byte elements are little-endian.
        shape: Extents, none negative.
        offset: Byte offset of its first element in the plain bytes.
        nbytes: Bytes from its first to behind its last element.
        strides: Distance of neighbours in elements, per axis; None for row-major without gaps.
        alias_of: Name of the tensor whose storage it shares (tied weights are stored once).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    strides: tuple[int, ...] | None = None
    alias_of: str | None = None

    def to_json(self) -> JsonObject:
        """The table row."""
        row: JsonObject = {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "offset": self.offset,
            "nbytes": self.nbytes,
        }
        if self.strides is not None:
            row["strides"] = list(self.strides)
        if self.alias_of is not None:
            row["alias_of"] = self.alias_of
        return row


_REQUIRED = frozenset({"name", "dtype", "shape", "offset", "nbytes"})
_ALL = _REQUIRED | {"strides", "alias_of"}


def read_table(fields: Fields, key: str) -> tuple[TensorEntry, ...]:
    """Reads a table; each row is checked by itself (`check_table` checks them together).

    Rows are read without `Fields`, since there may be hundreds of thousands.

    Raises:
        ManifestError: A row is not of the schema.
        LimitError: There are too many, or one is too large.
    """
    where = f"{fields.where}.{key}"
    rows = fields.array(key, fields.limits.tensors)
    return tuple(_row(row, f"{where}[{i}]", fields) for i, row in enumerate(rows))


def _row(row: JsonValue, where: str, fields: Fields) -> TensorEntry:
    if not isinstance(row, dict):
        raise ManifestError(f"{where}: expected an object")
    if not row.keys() <= _ALL and not fields.lenient:
        raise ManifestError(f"{where}: unknown field {min(row.keys() - _ALL)[:80]!r}")
    if not row.keys() >= _REQUIRED:
        raise ManifestError(f"{where}.{min(_REQUIRED - row.keys())}: is missing")
    name, dtype, alias = row["name"], row["dtype"], row.get("alias_of", "-")
    if not (isinstance(name, str) and isinstance(dtype, str) and isinstance(alias, str)):
        raise ManifestError(f"{where}: name, dtype and alias_of are strings")
    check_string(name, what=where, limits=fields.limits)
    if not name:
        raise ManifestError(f"{where}.name: is empty")
    if dtype not in DTYPE_BITS:
        raise ManifestError(
            f"{where}.dtype: {dtype[:80]!r} is unknown; known: {', '.join(sorted(DTYPE_BITS))}"
        )
    entry = TensorEntry(
        name,
        dtype,
        _dims(row["shape"], where),
        integer(row["offset"], where),
        integer(row["nbytes"], where),
        _dims(row["strides"], where) if "strides" in row else None,
        alias if "alias_of" in row else None,
    )
    problem = _extent_problem(entry)
    if problem:
        raise ManifestError(f"{where} {name[:80]!r}: {problem}")
    return entry


def element_count(shape: Sequence[int]) -> int:
    """Product of the extents, refusing what no file can hold.

    Raises:
        LimitError: The product is over 2^53-1.
    """
    count = 1
    for dim in shape:
        count *= dim
        if count > MAX_INTEGER:
            if 0 in shape:
                return 0
            raise LimitError(f"shape {list(shape)} has over 2^53-1 elements")
    return count


def byte_count(dtype: str, shape: Sequence[int], strides: Sequence[int] | None = None) -> int:
    """Bytes from the first to behind the last element."""
    count = element_count(shape)
    if strides is not None and count:
        count = 1 + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    return -(-count * DTYPE_BITS[dtype] // 8)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a dense row-major tensor."""
    strides: list[int] = []
    step = 1
    for dim in reversed(shape):
        strides.append(step)
        step *= max(dim, 1)
    return tuple(reversed(strides))


def dtype_of(array: "numpy.ndarray") -> str:
    """Our name of a numpy array's dtype.

    Raises:
        InvalidArgumentError: It has none (objects, strings, structures, big-endian).
    """
    dtype = _BY_NUMPY_NAME.get(array.dtype.name)
    if dtype is None:
        raise InvalidArgumentError(
            f"array of dtype {array.dtype} cannot be stored; use one of "
            + ", ".join(sorted(_BY_NUMPY_NAME))
        )
    return dtype


def check_table(tensors: Sequence[TensorEntry], plain_size: int, where: str) -> None:
    """Checks a whole table: unique names, bounds, alignment, overlaps, aliases.

    Raises:
        ManifestError: Some rule of FORMAT.md, "Tensors table", is broken.
    """
    by_name: dict[str, TensorEntry] = {}
    for tensor in tensors:
        if tensor.name in by_name:
            raise ManifestError(f"{where}: two tensors are called {tensor.name[:80]!r}")
        by_name[tensor.name] = tensor
        if tensor.offset + tensor.nbytes > plain_size:
            raise ManifestError(
                f"{where}: tensor {tensor.name[:80]!r} ends at byte "
                f"{tensor.offset + tensor.nbytes} of {plain_size}"
            )
    if list(by_name) != sorted(by_name):
        raise ManifestError(f"{where}: tensors are not sorted by name")
    owners = sorted((t for t in tensors if t.alias_of is None), key=lambda t: (t.offset, t.nbytes))
    end = 0
    for tensor in owners:
        if tensor.offset % ALIGNMENT:
            raise ManifestError(
                f"{where}: tensor {tensor.name[:80]!r} at byte {tensor.offset} is not aligned "
                f"to {ALIGNMENT}"
            )
        if tensor.nbytes and tensor.offset < end:
            raise ManifestError(f"{where}: tensor {tensor.name[:80]!r} overlaps another")
        end = max(end, tensor.offset + tensor.nbytes)
    for tensor in tensors:
        if tensor.alias_of is not None:
            _check_alias(tensor, by_name.get(tensor.alias_of), where)


def _check_alias(tensor: TensorEntry, owner: TensorEntry | None, where: str) -> None:
    what = f"{where}: tensor {tensor.name[:80]!r}"
    if owner is None:
        raise ManifestError(f"{what} is an alias of an unknown tensor")
    if owner.alias_of is not None:
        raise ManifestError(f"{what} is an alias of an alias; name the owner of the storage")
    inside = owner.offset <= tensor.offset
    inside = inside and tensor.offset + tensor.nbytes <= owner.offset + owner.nbytes
    bits = DTYPE_BITS[tensor.dtype]
    if tensor.dtype != owner.dtype or not inside or tensor.offset * 8 % max(bits, 8):
        raise ManifestError(f"{what} does not lie inside its owner {owner.name[:80]!r}")
    if (tensor.offset - owner.offset) * 8 % bits:
        raise ManifestError(f"{what} is not at an element of its owner")


def _dims(value: JsonValue, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ManifestError(f"{where}: shape and strides are arrays")
    if len(value) > MAX_RANK:
        raise LimitError(f"{where}: rank {len(value)}, limit {MAX_RANK}")
    return tuple([integer(item, where) for item in value])


def _extent_problem(entry: TensorEntry) -> str | None:
    strides = entry.strides
    if strides is not None:
        if len(strides) != len(entry.shape):
            return f"has {len(entry.shape)} axes and {len(strides)} strides"
        if strides == row_major(entry.shape):
            return "has strides although it is dense (leave them out)"
        if DTYPE_BITS[entry.dtype] < 8:
            return "has strides although its elements are packed"
        span = 1
        for stride, dim in sorted(
            (s, d) for s, d in zip(strides, entry.shape, strict=True) if d > 1
        ):
            if stride < span:
                return f"has strides {list(strides)} under which elements overlap"
            span = stride * dim
    try:
        expected = byte_count(entry.dtype, entry.shape, strides)
    except LimitError as error:
        return error.message
    if expected != entry.nbytes:
        return f"has {entry.nbytes} bytes where its shape and dtype need {expected}"
    return None


def view(tensor: TensorEntry, part: memoryview) -> "numpy.ndarray":
    """A numpy view of one tensor over its `nbytes` plain bytes: no copy, read-only if they are.

    Returns:
        Array of `tensor.shape`. Types under 8 bits come packed: uint8 `[nbytes]`.

    Raises:
        InvalidArgumentError: numpy does not know the dtype (`import ml_dtypes` adds it).
    """
    import numpy

    if DTYPE_BITS[tensor.dtype] < 8:
        return numpy.frombuffer(part, numpy.uint8)
    dtype = _numpy_dtype(tensor.dtype)
    flat = numpy.frombuffer(part, dtype)
    if tensor.strides is None or not tensor.nbytes:
        return flat.reshape(tensor.shape)
    steps = [s * dtype.itemsize for s in tensor.strides]
    return numpy.ndarray(tensor.shape, dtype, part, 0, steps)


def _numpy_dtype(dtype: str) -> "numpy.dtype":
    import numpy

    try:
        return numpy.dtype(NUMPY_NAMES[dtype])
    except TypeError:
        raise InvalidArgumentError(
            f"numpy has no dtype {NUMPY_NAMES[dtype]}; import ml_dtypes first, or read the bytes"
        ) from None


def rows(tensors: Sequence[TensorEntry]) -> list[JsonValue]:
    """The table as JSON."""
    return [tensor.to_json() for tensor in tensors]
