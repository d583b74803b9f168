"""Forged and damaged torch files, and such that carry commands, are refused."""

import io
import pathlib
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_help import rezip

from torsh_package.convert import FormatConverter
from torsh_package.convert.torch_file import read_torch
from torsh_package.errors import ConversionError, LimitError, PackageError, UnsafePickleError
from torsh_package.limits import Limits

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(TypedStorage|quant|sparse|Sparse|jit|torch.jit).*"
)


def _forged(tmp_path: Path, **changes: object) -> Path:
    """A checkpoint of one 4-element float tensor whose pickle says something else."""
    row = {
        "key": "0",
        "numel": 4,
        "kind": "FloatStorage",
        "offset": 0,
        "size": (4,),
        "stride": (1,),
    }
    row |= changes
    path = tmp_path / "forged.pt"
    torch.save({"w": torch.arange(4.0)}, path)

    class Emit(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            if isinstance(obj, torch.storage.UntypedStorage):
                return (
                    "storage",
                    getattr(torch, str(row["kind"])),
                    row["key"],
                    "cpu",
                    row["numel"],
                )
            return None

    class Call:
        def __reduce__(self):
            arguments = (
                torch.UntypedStorage(0),
                row["offset"],
                row["size"],
                row["stride"],
                False,
                None,
            )
            return torch._utils._rebuild_tensor_v2, arguments

    buffer = io.BytesIO()
    Emit(buffer, 2).dump({"w": Call()})
    rezip(path, {"forged/data.pkl": buffer.getvalue()})
    return path


FORGED = {
    "offset outside": {"offset": 1},
    "offset 2^62": {"offset": 1 << 62},
    "negative offset": {"offset": -1},
    "size too large": {"size": (5,)},
    "size overflow": {"size": (1 << 40, 1 << 40)},
    "negative size": {"size": (-4,)},
    "stride outside": {"stride": (2,)},
    "negative stride": {"offset": 3, "stride": (-1,)},
    "stride missing": {"stride": ()},
    "expanded to a bomb": {"size": (1 << 36,), "stride": (0,)},
    "rank 65": {"size": (1,) * 65, "stride": (1,) * 65},
    "numel forged": {"numel": 1 << 40},
    "numel negative": {"numel": -4},
    "wider element": {"kind": "DoubleStorage"},
    "storage missing": {"key": "9"},
    "storage elsewhere": {"key": "../data.pkl"},
    "size of floats": {"size": (4.0,)},
    "offset no integer": {"offset": "0"},
}


@pytest.mark.parametrize("name", FORGED)
def test_89_forged_tensors_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConversionError):
        read_torch(_forged(tmp_path, **FORGED[name]))


def test_the_forgery_helper_makes_honest_files_too(tmp_path: Path) -> None:
    assert np.array_equal(read_torch(_forged(tmp_path)).weights["w"], np.arange(4.0))


def test_overlapping_views_are_bounded(tmp_path: Path) -> None:
    base = torch.zeros(1 << 20)
    path = tmp_path / "views.pt"
    torch.save({str(i): base[i:] for i in range(2_000)}, path)  # 4 MB that claim to be 8 GB
    with pytest.raises(LimitError, match="repeat the file"):
        read_torch(path)


def _laughs(levels: int) -> bytes:
    """`{"a": x}` where x is a pair of twice the same pair of twice the same pair, and so on."""
    return b"\x80\x02}X\x01\x00\x00\x00a]" + b"2\x86" * levels + b"s."


def test_billion_laughs(tmp_path: Path) -> None:
    path = tmp_path / "laughs.pkl"
    path.write_bytes(_laughs(60))
    with pytest.raises(LimitError, match="reachable"):
        read_torch(path)
    path.write_bytes(_laughs(2_000))
    with pytest.raises(LimitError, match="nested deeper"):
        read_torch(path, limits=Limits(pickle_depth=100))


class Payload:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)

    def command(self):
        import os

        return os.system, (f"touch {self.mark}",)


class Command(Payload):
    def __reduce__(self):
        return self.command()


@pytest.mark.parametrize("kind", ["zip", "legacy", "package", "pickle", "nested"])
@pytest.mark.filterwarnings("ignore")
def test_87_commands_are_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.pt"
    value = {"w": torch.ones(2), "x": Command(mark)}
    match kind:
        case "package":
            from torch.package import PackageExporter

            with PackageExporter(path) as exporter:
                exporter.extern("**")
                exporter.save_pickle("model", "model.pkl", value)
        case "pickle":
            path.write_bytes(pickle.dumps(value))
        case "nested":
            inner = io.BytesIO()
            torch.save(value, inner, _use_new_zipfile_serialization=False)
            call = b"\x80\x02}X\x01\x00\x00\x00actorch.storage\n_load_from_bytes\nB"
            raw = inner.getvalue()
            path.write_bytes(call + struct.pack("<I", len(raw)) + raw + b"\x85Rs.")
        case _:
            torch.save(value, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UnsafePickleError, match=r"system \(") as caught:
        FormatConverter().convert(path)
    assert caught.value.found
    assert not mark.exists()


def test_88_unknown_calls_are_skipped_and_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "odd.pt"
    torch.save({"w": torch.ones(2), "x": Payload(mark)}, path)
    found = read_torch(path)
    assert set(found.weights) == {"w"}
    assert not mark.exists()
    assert any("computed callable" in row.what for row in found.skipped)


ARCHIVE_DAMAGE = {
    "storage cut": lambda z: z | {"a/data/0": z["a/data/0"][:-1]},
    "storage longer": lambda z: z | {"a/data/0": z["a/data/0"] + b"x"},
    "byteorder unknown": lambda z: z | {"a/byteorder": b"middle"},
    "pickle cut": lambda z: z | {"a/data.pkl": z["a/data.pkl"][:-3]},
    "pickle empty": lambda z: z | {"a/data.pkl": b""},
}


@pytest.mark.parametrize("name", ARCHIVE_DAMAGE)
def test_damaged_archives(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(3)}, path)
    with zipfile.ZipFile(path) as source:
        entries = {n: source.read(n) for n in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for entry, data in ARCHIVE_DAMAGE[name](entries).items():
            target.writestr(entry, data)
    with pytest.raises(ConversionError):
        read_torch(path)


def test_flipped_bits_in_tensors_are_seen(tmp_path: Path) -> None:
    """torch.load accepts such a file; its CRC-32 says otherwise."""
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(1000)}, path)
    data = bytearray(path.read_bytes())
    at = data.find(torch.ones(1000).numpy().tobytes())
    data[at + 103] ^= 0x40
    path.write_bytes(data)
    assert float(torch.load(path)["w"].sum()) != 1000
    with pytest.raises(ConversionError, match="CRC"):
        read_torch(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncation_anywhere_is_a_typed_error(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for size in range(0, len(data) - 1, 7):
        path.write_bytes(data[:size])
        with pytest.raises(PackageError):
            FormatConverter().convert(path)
