"""safetensors, npz and npy: equal to the reference libraries, hostile files refused."""

import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from convert_help import RNG, same, weights_of

from torsh_package.convert import FormatConverter, PackageFormat, detect_format
from torsh_package.convert.npz_file import read_npy
from torsh_package.convert.safetensors_file import read_safetensors
from torsh_package.errors import ConversionError

SAFE = {
    "f": RNG.normal(size=(3, 2)).astype(np.float32), "h": np.ones((2,), np.float16),
    "bf": np.arange(3).astype(ml_dtypes.bfloat16), "i": np.arange(4), "s": np.array(2.5),
    "b": np.array([True, False]), "e": np.zeros((0, 3), np.int8),
    "u": np.arange(3, dtype=np.uint16),
}  # fmt: skip


def test_safetensors_equal_the_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(SAFE, path, {"format": "pt"})
    assert detect_format(path) is PackageFormat.SAFETENSORS
    converter = FormatConverter()
    same(weights_of(converter.convert(path)), safetensors.numpy.load_file(path))
    assert converter.report is not None
    assert converter.report.facts == {"format": "pt"}


def packed(header: str | bytes, body: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + body


ROW = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


BAD_SAFETENSORS = {
    "duplicate key": packed(f'{{"a":{ROW},"a":{ROW}}}', b"\0" * 4),
    "overlap": packed(f'{{"a":{ROW},"b":{ROW}}}', b"\0" * 4),
    "hole": packed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"\0" * 8),
    "trailing": packed(f'{{"a":{ROW}}}', b"\0" * 8),
    "beyond the end": packed(f'{{"a":{ROW}}}', b"\0" * 3),
    "shape overflow": packed(
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', b"\0" * 4
    ),
    "size differs": packed('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"\0" * 4),
    "header 2^40": struct.pack("<Q", 1 << 40) + b"{}",
    "header 2^64-1": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "negative extent": packed('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"\0" * 4),
    "negative offset": packed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"\0" * 4),
    "reversed offsets": packed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b"\0" * 4),
    "float extent": packed('{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', b"\0" * 4),
    "boolean extent": packed('{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', b"\0"),
    "unknown dtype": packed('{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    "unknown field": packed(f'{{"a":{ROW[:-1]},"x":1}}}}', b"\0" * 4),
    "missing field": packed('{"a":{"shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    "metadata no text": packed('{"__metadata__":{"a":1}}'),
    "deep nesting": packed('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "5000 digits": packed('{"a":' + "9" * 5_000 + "}"),
    "NaN": packed('{"a":NaN}'),
    "not utf-8": packed(b'{"\xff":1}'),
    "leading space": packed(" {}"),
    "no object": packed("[]"),
    "too short": b"\x02\0\0",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SAFETENSORS)
def test_95_hostile_safetensors(name: str) -> None:
    data = np.frombuffer(BAD_SAFETENSORS[name], np.uint8)
    with pytest.raises(ConversionError):
        read_safetensors(data, entry=name)


ARRAYS = {
    "f": RNG.normal(size=(3, 4)).astype(np.float32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"), "c": np.array([1 + 2j]), "b": np.array([[True], [False]]),
    "scalar": np.array(3), "empty": np.zeros((0, 2)), "h": np.arange(3).astype(np.float16),
}  # fmt: skip


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_equal_numpy(tmp_path: Path, save) -> None:
    path = tmp_path / "weights.npz"
    save(path, **ARRAYS, label=np.array(["text"]))
    converter = FormatConverter()
    found = weights_of(converter.convert(path))
    with np.load(path, allow_pickle=False) as expected:
        same(found, {name: expected[name] for name in ARRAYS})
    assert converter.report is not None
    assert [row.where for row in converter.report.skipped] == ["label.npy"]


def test_npy(tmp_path: Path) -> None:
    path = tmp_path / "one.npy"
    np.save(path, ARRAYS["fortran"])
    same(weights_of(FormatConverter().convert_from_npz(path)), {"one": ARRAYS["fortran"]})


class Shout:
    def __reduce__(self):
        return print, ("unpickled",)


def test_90_npz_with_objects_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.array([Shout()], dtype=object))
    with pytest.raises(ConversionError, match="Python objects"):
        FormatConverter().convert(path)
    assert capsys.readouterr().out == ""


def npy(header: str, body: bytes = b"\0" * 8, version: int = 1) -> bytes:
    raw = header.encode("latin1")
    size = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + body


GOOD_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


def test_a_long_header_is_fine_up_to_the_limit() -> None:
    data = np.frombuffer(npy(GOOD_HEADER + " " * 9_000, version=2), np.uint8)
    assert np.array_equal(read_npy(data, entry="npy"), [0.0])


BAD_NPY = {
    "call": npy("{'descr': __import__('os').system('id'), 'fortran_order': False, 'shape': (1,)}"),
    "lambda": npy("(lambda: 1)()"),
    "deep": npy("(" * 5_000),
    "deep dict": npy("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 4_000 + "}"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "record": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}"),
    "record of objects": npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}"),
    "subarray": npy("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (1,)}"),
    "twice": npy("{'descr': '<f8', 'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "missing": npy("{'descr': '<f8', 'shape': (1,)}"),
    "extra": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
    "after": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} + 1"),
    "negative": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
    "overflow": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 9999999999)}"),
    "too small": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}"),
    "too large": npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", b"\0" * 9),
    "odd width": npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}"),
    "header 4 GB": b"\x93NUMPY\x02\0\xff\xff\xff\xff",
    "header over the limit": npy(GOOD_HEADER + " " * 20_000, version=2),
    "version 9": npy("{}", version=9),
    "magic only": b"\x93NUMPY",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NPY)
def test_91_hostile_npy(name: str) -> None:
    with pytest.raises(ConversionError):
        read_npy(np.frombuffer(BAD_NPY[name], np.uint8), entry=name)


def zipped(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


GOOD = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }")


def _zip_edit(path: Path, find: bytes, put: bytes, last: bool = False) -> Path:
    data = bytearray(path.read_bytes())
    at = data.rfind(find) if last else data.find(find)
    data[at : at + len(find)] = put
    path.write_bytes(data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", [
    "slip", "absolute", "backslash", "twice", "bomb", "crc", "local name", "encrypted", "method",
])  # fmt: skip
def test_hostile_zip(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.npz"
    match case:
        case "slip":
            zipped(path, ("../a.npy", GOOD))
        case "absolute":
            zipped(path, ("/a.npy", GOOD))
        case "backslash":
            zipped(path, ("..\\a.npy", GOOD))
        case "twice":
            zipped(path, ("a.npy", GOOD), ("a.npy", GOOD))
        case "bomb":
            zeros = npy(
                "{'descr': '<f8', 'fortran_order': False, 'shape': (8912896,), }", bytes(68 << 20)
            )
            zipped(path, ("a.npy", zeros), method=zipfile.ZIP_DEFLATED)
        case "crc":
            _zip_edit(zipped(path, ("a.npy", GOOD)), b"\0" * 8 + b"PK", b"\0" * 7 + b"\1PK")
        case "local name":
            _zip_edit(zipped(path, ("a.npy", GOOD)), b"a.npy", b"b.npy")
        case "encrypted":
            data = bytearray(zipped(path, ("a.npy", GOOD)).read_bytes())
            data[data.find(b"PK\1\2") + 8] |= 1
            path.write_bytes(data)
        case _:
            data = bytearray(zipped(path, ("a.npy", GOOD)).read_bytes())
            data[data.find(b"PK\1\2") + 10] = 12
            path.write_bytes(data)
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)
