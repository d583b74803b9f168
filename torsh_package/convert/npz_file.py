"""numpy's `.npy` and `.npz`, without `ast.literal_eval` and without pickle.

Source of the format: numpy.lib.format (NEP 1).
"""

import io
import re
import zipfile
from collections.abc import Mapping

import numpy as np

from torsh_package.errors import ConversionError
from torsh_package.limits import DEFAULT_LIMITS, Limits

from .arrays import Array, dense_view, element_count
from .checkpoint import Skipped
from .foreign_zip import ForeignZip

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000  # numpy's own limit
_SHAPE = r"\((?P<shape>\s*(?:[0-9]{1,19}L?\s*,\s*)*(?:[0-9]{1,19}L?\s*)?)\)"
_FIELD = (
    r"(?:'descr'\s*:\s*'(?P<descr>[^'\\]{1,32})'|'fortran_order'\s*:\s*(?P<fortran>True|False)"
    rf"|'shape'\s*:\s*{_SHAPE})"
)
_NUMERIC = re.compile(r"[<>|=][biufc][0-9]{1,2}")
_TEXT = re.compile(r"[<>|=][USmM][0-9]*(?:\[[a-z0-9]+\])?")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def is_npz(names: list[str]) -> bool:
    """Whether a ZIP with these entries is an npz."""
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(
    archive: ForeignZip, limits: Limits = DEFAULT_LIMITS
) -> tuple[dict[str, Array], list[Skipped]]:
    """Arrays by name, and what was left out.

    Raises:
        ConversionError: when an array is malformed or holds Python objects.
    """
    tensors: dict[str, Array] = {}
    skipped: list[Skipped] = []
    for name in archive.names():
        array = read_npy(archive.array(name), entry=f"{archive.name}:{name}")
        if isinstance(array, str):
            skipped.append(Skipped(name, "array", array))
        else:
            tensors[name.removesuffix(".npy")] = array
    return tensors, skipped


def read_npy(data: Array, *, entry: str) -> Array | str:
    """The array of a `.npy` (uint8 `[n]`), or why it is no tensor.

    Raises:
        ConversionError: when it is malformed or holds Python objects.
    """
    head = data[:12].tobytes()
    if len(head) < 10 or head[:6] != MAGIC or head[6] not in (1, 2, 3):
        raise ConversionError("is no .npy of version 1, 2 or 3", entry=entry)
    width = 2 if head[6] == 1 else 4
    start = 8 + width
    length = int.from_bytes(head[8:start], "little")
    if length > min(_MAX_HEADER, data.nbytes - start):
        raise ConversionError(f"a .npy header of {length} bytes is refused", entry=entry)
    descr, fortran, shape = _header(data[start : start + length].tobytes(), entry)
    if "O" in descr:
        raise ConversionError(
            "holds Python objects, which need pickle; save numeric arrays only", entry=entry
        )
    if not _NUMERIC.fullmatch(descr):
        return "text or dates" if _TEXT.fullmatch(descr) else f"dtype {descr} is unknown"
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ConversionError(f"dtype {descr!r} is unknown", entry=entry) from error
    element_count(shape, entry=entry)
    stored = shape[::-1] if fortran else shape
    array = dense_view(data[start + length :], dtype, stored, entry=entry)
    array = array.T if fortran else array
    return array.astype(dtype.newbyteorder("<"), copy=False)


def _header(raw: bytes, entry: str) -> tuple[str, bool, list[int]]:
    """`{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` in any order."""
    text = raw.decode("latin1").strip()
    found: dict[str, str] = {}
    at = 1
    while text.startswith("{") and at < len(text) and not text[at:].lstrip().startswith("}"):
        match = re.compile(r"\s*" + _FIELD + r"\s*(?:,|(?=\}))\s*").match(text, at)
        if match is None or match.end() == at:
            break
        fields = {key: value for key, value in match.groupdict().items() if value is not None}
        if fields.keys() & found.keys():
            break
        found |= fields
        at = match.end()
    if len(found) != 3 or text[at:].strip() != "}":
        if "'O'" in text or "|O" in text or "('" in text:
            raise ConversionError("holds Python objects or records; only numbers", entry=entry)
        raise ConversionError(f"malformed .npy header {text[:80]!r}", entry=entry)
    shape = [int(part.strip().rstrip("L")) for part in found["shape"].split(",") if part.strip()]
    return found["descr"], found["fortran"] == "True", shape


def write_npz(tensors: Mapping[str, Array]) -> bytes:
    """An uncompressed npz with fixed dates, so that equal tensors give equal bytes.

    Raises:
        ConversionError: when numpy itself has no such dtype (bfloat16, float8).
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(tensors):
            array = tensors[name]
            if array.dtype.kind not in "biufc":
                raise ConversionError(
                    f"tensor {name[:80]!r}: npz has no dtype {array.dtype}; write safetensors"
                )
            with archive.open(
                zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True
            ) as target:
                np.lib.format.write_array(target, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
