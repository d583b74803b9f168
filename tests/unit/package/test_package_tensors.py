"""Tensors in packages: dtypes, layouts, shared storage, alignment."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_help import arrays

from torsh_package import (
    InvalidArgumentError,
    Package,
    ResourceType,
)


def test_tensors_round_trip_without_a_copy(tmp_path: Path) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("w", arrays(), ResourceType.ModelWeights)
    path = tmp_path / "m"
    package.save(path)
    tensors = Package.load(path).get_resource("w").tensors
    assert set(tensors) == set(arrays())
    for name, expected in arrays().items():
        found = tensors[name]
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert found.shape == expected.shape
        assert not found.flags.writeable
        assert found.ctypes.data % 64 == 0 or not found.size
    with pytest.raises(ValueError, match="read-only"):
        tensors["fc.bias"][0] = 1


def test_tied_weights_are_stored_once() -> None:
    w = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    tied = {"emb": w, "head": w, "t": w.T, "row": w[3], "column": w[:, 5], "copy": w.copy()}
    package = Package("m", "1.0.0")
    package.add_resource("w", tied, ResourceType.ModelWeights)
    data = package.to_bytes()
    assert len(data) < 2 * w.nbytes + 10_000
    loaded = Package.load(data).get_resource("w")
    for name, expected in tied.items():
        assert np.array_equal(loaded.tensor(name), expected)
    rows = {row.name: row for row in loaded.table or ()}
    assert rows["copy"].alias_of is None
    assert rows["t"].strides == (1, 1000)
    owners = {row.alias_of for row in rows.values()} - {None}
    assert len(owners) == 1
    assert loaded.tensor("emb").ctypes.data == loaded.tensor("head").ctypes.data


def test_arrays_that_cannot_alias_are_copied() -> None:
    w = np.arange(12, dtype=np.float32)
    cases = {
        "reversed": w[::-1],
        "broadcast": np.broadcast_to(w[:1], (5,)),
        "windows": np.lib.stride_tricks.sliding_window_view(w, 3),
        "big": w.astype(">f4"),
        "other dtype": w.view(np.int32),
        "w": w,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    package = Package("m", "1.0.0")
    package.add_resource("w", cases, ResourceType.ModelWeights)
    loaded = Package.load(package.to_bytes()).get_resource("w")
    for name, expected in cases.items():
        assert np.array_equal(loaded.tensor(name), expected), name


def test_bfloat16_needs_ml_dtypes_only_to_be_seen() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    w = np.arange(10).astype(ml_dtypes.bfloat16)
    f8 = np.arange(10).astype(ml_dtypes.float8_e4m3fn)
    package = Package("m", "1.0.0")
    package.add_resource("w", {"w": w, "f8": f8}, ResourceType.ModelWeights)
    loaded = Package.load(package.to_bytes()).get_resource("w")
    assert loaded.tensor("w").dtype == w.dtype
    assert np.array_equal(loaded.tensor("w").view(np.uint16), w.view(np.uint16))
    assert np.array_equal(loaded.tensor("f8").view(np.uint8), f8.view(np.uint8))


@pytest.mark.parametrize(
    "bad",
    [
        np.array([object()]),
        np.array(["text"]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, np.longdouble),
    ],
)
def test_arrays_that_cannot_be_stored(bad: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be stored"):
        Package("m", "1.0.0").add_resource("w", {"w": bad}, ResourceType.ModelWeights)


def test_alignment() -> None:
    from torsh_package.container.reader import ArchiveReader

    package = Package("m", "1.0.0", alignment=4096)
    package.add_resource("a", b"x", ResourceType.Data)
    package.add_resource("b", b"x", ResourceType.Data)
    data = package.to_bytes()
    assert all(entry.offset % 4096 == 0 for entry in ArchiveReader.open(data).entries)
    assert Package.load(data).to_bytes() == data
    with pytest.raises(InvalidArgumentError, match="alignment"):
        Package("m", "1.0.0", alignment=100)


def test_many_tensors_are_laid_out_in_time() -> None:
    import time

    store = np.arange(200_000, dtype=np.float32)
    many = {f"t{i:05d}": store[i * 10 : i * 10 + 10] for i in range(20_000)} | {"all": store}
    begin = time.process_time()
    package = Package("m", "1.0.0")
    package.add_resource("w", many, ResourceType.ModelWeights)
    assert time.process_time() - begin < 5
    resource = package.get_resource("w")
    assert resource.size == store.nbytes
    assert {row.alias_of for row in resource.table or ()} == {None, "all"}
    assert np.array_equal(resource.tensor("t00123"), store[1230:1240])
