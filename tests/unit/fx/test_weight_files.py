"""Weights in safetensors files, against the reference library and damaged files."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from torsh_dialect.dtypes import DTYPES
from torsh_dialect.errors import ImportModelError, InvalidArgumentError
from torsh_fx.safetensors import read_safetensors, write_safetensors
from torsh_fx.save import read_weights

NUMERIC = [row for row in DTYPES if row.kind != "string"]


def of_dtype(row, *shape):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(row.numpy)


def test_every_dtype_comes_back(tmp_path):
    arrays = {row.name: of_dtype(row, 2, 3) for row in NUMERIC}
    write_safetensors(tmp_path / "w.safetensors", arrays)
    found = read_safetensors(tmp_path / "w.safetensors")
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert not found[name].flags.writeable


def test_the_reference_library_reads_what_we_write(tmp_path):
    arrays = {
        "a": np.float32([[1, 2]]), "b": np.int64(7).reshape(()),
        "empty": np.zeros((0, 3), np.float16), "c": np.array([True, False]),
        "d": np.arange(5, dtype=np.uint8)[::2],
    }  # fmt: skip
    write_safetensors(tmp_path / "w.safetensors", arrays)
    found = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_we_read_what_the_reference_library_writes(tmp_path):
    arrays = {"x": np.float64([1.5]), "half": np.float16([1, 2]), "none": np.zeros((0,), np.int32)}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors", {"note": "hello"})
    found = read_safetensors(tmp_path / "w.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_no_tensors_at_all(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", {})
    assert read_safetensors(tmp_path / "w.safetensors") == {}


def written(path, header, content=b"\0" * 8, length=None):
    data = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(data) if length is None else length) + data + content)
    return path


def row(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


HOSTILE = {
    "header beyond the end": ({"a": row()}, {"length": 1 << 20}),
    "huge header": ({"a": row()}, {"length": 1 << 60}),
    "no JSON": (b"{", {}),
    "a list": (b"[]", {}),
    "deep": (b"[" * 100_000, {}),
    "not UTF-8": (b'{"\xff": 1}', {}),
    "a name twice": (
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": 1}',
        {},
    ),
    "unknown dtype": ({"a": row("F31")}, {}),
    "negative extent": ({"a": row(shape=(-2,))}, {}),
    "bool extent": ({"a": row(shape=(True,), offsets=(0, 4))}, {"content": b"\0" * 4}),
    "float extent": ({"a": row(shape=(2.0,))}, {}),
    "shape too large": ({"a": row(shape=(3,))}, {}),
    "overflowing shape": ({"a": row(shape=(1 << 40, 1 << 40))}, {}),
    "offsets backwards": ({"a": row(offsets=(8, 0))}, {}),
    "offsets outside": ({"a": row(offsets=(8, 16))}, {}),
    "three offsets": ({"a": row(offsets=(0, 8, 8))}, {}),
    "overlap": ({"a": row(), "b": row()}, {}),
    "hole": ({"a": row(shape=(1,), offsets=(4, 8))}, {}),
    "bytes left": ({"a": row(shape=(1,), offsets=(0, 4))}, {}),
    "spelled unknown": (
        {"__metadata__": {"torsh.dtype.a": "object"}, "a": row("U8", (8,))},
        {},
    ),
    "spelled string": ({"__metadata__": {"torsh.dtype.a": "str"}, "a": row("U8", (1, 8))}, {}),
    "spelled width": ({"__metadata__": {"torsh.dtype.a": "c128"}, "a": row("U8", (8,))}, {}),
    "entry is text": ({"a": "F32"}, {}),
    "metadata is text": ({"__metadata__": "x", "a": row()}, {}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    header, options = HOSTILE[name]
    with pytest.raises(ImportModelError, match="hostile"):
        read_safetensors(written(tmp_path / "hostile.safetensors", header, **options))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 7])
def test_files_that_are_too_short(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ImportModelError, match="no safetensors"):
        read_safetensors(tmp_path / "w.safetensors")


def test_strings_are_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="strings"):
        write_safetensors(tmp_path / "w.safetensors", {"s": np.array(["a"])})
    assert not list(tmp_path.iterdir())


def test_npz_weights(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(2, np.float32))
    np.testing.assert_array_equal(read_weights(tmp_path / "w.npz")["a"], np.ones(2))
    np.savez(tmp_path / "o.npz", a=np.array([{}], object))
    with pytest.raises(ImportModelError, match="allow_pickle"):
        read_weights(tmp_path / "o.npz")
    with pytest.raises(InvalidArgumentError, match=r"w\.bin"):
        read_weights(tmp_path / "w.bin")


def test_sub_byte_types_take_a_byte(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", {"q": np.array([1, -8, 7], ml_dtypes.int4)})
    found = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert found["q"].dtype == np.uint8
    assert found["q"].shape == (3, 1)
