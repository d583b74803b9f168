"""Folders of Hugging Face and MLflow."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from convert_help import same, weights_of

from torsh_package.convert import FormatConverter, PackageFormat, detect_format
from torsh_package.convert.folders import parse_flavours
from torsh_package.errors import ConversionError


def test_huggingface_shards(tmp_path: Path) -> None:
    shards = {
        "model-1.safetensors": {"a": np.ones(2, np.float32)},
        "model-2.safetensors": {"b": np.arange(3)},
    }
    for name, tensors in shards.items():
        safetensors.numpy.save_file(tensors, tmp_path / name)
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"model_type": "tiny", "transformers_version": "5.0"}')
    (tmp_path / "modeling_tiny.py").write_text("class Tiny: ...\n")
    (tmp_path / "tf_model.h5").write_bytes(b"\x89HDF")
    (tmp_path / "README.md").write_text("# Tiny")
    assert detect_format(tmp_path) is PackageFormat.HUGGINGFACE
    converter = FormatConverter()
    package = converter.convert(tmp_path)
    same(weights_of(package), {"a": np.ones(2, np.float32), "b": np.arange(3)})
    assert {"config.json", "code/modeling_tiny.py", "README.md"} <= set(package.list_resources())
    assert converter.report is not None
    assert [row.where for row in converter.report.skipped] == ["tf_model.h5"]
    assert converter.report.environment["transformers_version"] == "5.0"
    index["weight_map"]["b"] = "model-1.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConversionError, match="'b' is not in"):
        FormatConverter().convert(tmp_path)
    both = {"a": np.zeros(2, np.float32), "b": np.zeros(3)}
    safetensors.numpy.save_file(both, tmp_path / "model-1.safetensors")
    index["weight_map"] = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConversionError, match="the index says otherwise"):
        FormatConverter().convert(tmp_path)
    index["weight_map"]["b"] = "../../outside.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConversionError):
        FormatConverter().convert(tmp_path)


def test_huggingface_links_are_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").symlink_to("/etc/hostname")
    with pytest.raises(ConversionError, match="symbolic link"):
        FormatConverter().convert(tmp_path)


MLMODEL = """artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
    loader_module: mlflow.pytorch
  pytorch:
    code: null
    model_data: data
    pytorch_version: 2.13.0
mlflow_version: 3.1.0
"""


def test_mlflow(tmp_path: Path) -> None:
    import torch

    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_text(MLMODEL)
    (tmp_path / "requirements.txt").write_text("torch==2.13.0\nnumpy>=1.26  # arrays\n-e ./here\n")
    torch.save(torch.nn.Linear(2, 3), tmp_path / "data" / "model.pth")
    converter = FormatConverter()
    package = converter.convert(tmp_path)
    assert {n: a.shape for n, a in weights_of(package).items()} == {"weight": (3, 2), "bias": (3,)}
    assert {(d.name, d.version_req, d.kind) for d in package.dependencies} == {
        ("torch", "==2.13.0", "pip"), ("numpy", ">=1.26", "pip"),
    }  # fmt: skip
    assert converter.report is not None
    assert converter.report.environment["pytorch_version"] == "2.13.0"
    assert [row.where for row in converter.report.skipped] == ["-e ./here"]
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    with pytest.raises(ConversionError, match="sklearn"):
        FormatConverter().convert(tmp_path)


def test_mlflow_flavours() -> None:
    found = parse_flavours(MLMODEL)
    assert found["pytorch"] == {"code": "null", "model_data": "data", "pytorch_version": "2.13.0"}
    assert set(found) == {"python_function", "pytorch"}
