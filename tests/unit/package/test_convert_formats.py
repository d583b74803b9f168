"""Formats are told by content, not by extension."""

import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from convert_help import model_of
from onnx import numpy_helper

from torsh_package import Package
from torsh_package.convert import FormatConverter, detect_format
from torsh_package.errors import ConversionError


def test_extensions_do_not_count(tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.ones(1)}, tmp_path / "a.onnx")
    np.savez(tmp_path / "b.npz", w=np.ones(1))
    (tmp_path / "b.npz").rename(tmp_path / "b.pt")
    onnx.save(model_of([numpy_helper.from_array(np.ones(1), "w")]), tmp_path / "c.safetensors")
    (tmp_path / "d.bin").write_bytes(pickle.dumps({"w": np.ones(1)}))
    safetensors.numpy.save_file({"w": np.ones(1)}, tmp_path / "e.npz")
    Package("m", "1.0.0").save(tmp_path / "f.zip")
    expected = {"a.onnx": "pytorch", "b.pt": "npz", "c.safetensors": "onnx", "d.bin": "pytorch",
                "e.npz": "safetensors", "f.zip": "torsh"}  # fmt: skip
    assert {p.name: str(detect_format(p)) for p in sorted(tmp_path.iterdir())} == expected
    with pytest.raises(ConversionError, match="holds pytorch, not onnx"):
        FormatConverter().convert_from_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello world, this is no model", b"\x7fELF" + b"\0" * 60, b"PK\x03\x04"]
)
def test_unknown_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ConversionError):
        detect_format(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/nonexistent", "/tmp"])
def test_what_is_no_file(path: str) -> None:
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConversionError, match="regular"):
        detect_format(tmp_path / "pipe")
