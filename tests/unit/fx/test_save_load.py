"""Saving a compiled model and loading it in a fresh process: the same bytes come out."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.errors import ImportModelError, InvalidArgumentError

ROOT = Path(__file__).resolve().parents[3]


def model(seed=0):
    rng = np.random.default_rng(seed)
    weight = numpy_helper.from_array(rng.normal(size=(8, 4)).astype(np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Tanh", ["h"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.fixture(scope="module")
def compiled():
    return torsh_fx.compile(model(), dynamic_shapes={"n": (1, 64)})


@pytest.fixture
def saved(compiled, tmp_path):
    compiled.save(tmp_path / "m.mlir")
    return tmp_path / "m.mlir"


FRESH = """
import sys, numpy as np, torsh_fx
f = torsh_fx.load(sys.argv[1])
np.save(sys.argv[2], f(np.load(sys.argv[3])))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"onnx", "torch"}))
"""


def test_a_fresh_process_gives_the_same_bytes(compiled, saved, tmp_path):
    x = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, saved, tmp_path / "y.npy", tmp_path / "x.npy"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert np.load(tmp_path / "y.npy").tobytes() == compiled(x).tobytes()
    assert done.stdout.split() == []


def test_names_bounds_and_locations_are_kept(compiled, saved):
    loaded = torsh_fx.load(saved)
    assert (loaded.input_names, loaded.output_names) == (("x",), ("y",))
    assert loaded.executable.spec.symbols == compiled.executable.spec.symbols
    assert "product" in loaded.program.spec.kernels[0].sources[0]
    with pytest.raises(torsh_fx.TorshError, match="65"):
        loaded(np.zeros((65, 8), np.float32))


def test_saving_again_writes_the_same_files(saved, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    torsh_fx.load(saved).save(again / "m.mlir")
    assert (again / "m.mlir").read_bytes() == saved.read_bytes()
    weights = "m.safetensors"
    assert (again / weights).read_bytes() == saved.with_name(weights).read_bytes()


def test_the_text_says_its_version_and_the_weights_digest(saved):
    text = saved.read_text()
    assert 'torsh.format_version = "2.0"' in text
    assert 'torsh.weights = "m.safetensors"' in text
    assert 'digest = "sha256:' in text
    assert len(text) < 3000


def test_state_is_kept(compiled, tmp_path):
    from dataclasses import replace

    from torsh_dialect.context import Context
    from torsh_fx.interface import State
    from torsh_fx.save import import_mlir, save

    weights = compiled.imported.weights
    name = weights.add("cache", np.arange(3, dtype=np.float32))
    state = (State("cache", 0, 0, name),)
    save(replace(compiled.imported, state=state), tmp_path / "s.mlir")
    loaded = import_mlir(tmp_path / "s.mlir", Context())
    assert loaded.state == state
    np.testing.assert_array_equal(loaded.weights[name], np.arange(3))


def _newer(path):
    path.write_text(path.read_text().replace('_version = "2.0"', '_version = "3.0"'))


def _outside(path):
    path.write_text(path.read_text().replace('"m.safetensors"', '"../m.safetensors"'))


def _unnamed(path):
    path.write_text(path.read_text().replace(', torsh.weights = "m.safetensors"', ""))


def _without_weights(path):
    path.with_name("m.safetensors").unlink()


def _other_weights(path):
    other = path.with_name("other.mlir")
    torsh_fx.compile(model(seed=9)).save(other)
    other.with_name("other.safetensors").replace(path.with_name("m.safetensors"))


def _cut_short(path):
    weights = path.with_name("m.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])


def _no_main(path):
    path.write_text(path.read_text().replace("@main", "@other"))


def _ill_typed(path):
    path.write_text(path.read_text().replace("torsh.tanh", "torsh.isnan"))


def _binary(path):
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_newer, "format version 3.0; this ToRSh reads up to 2.0"),
        (_outside, "beside the module"),
        (_unnamed, "torsh.weights"),
        (_without_weights, "is missing"),
        (_other_weights, "differs from the one that was saved"),
        (_cut_short, "m.safetensors"),
        (_no_main, "@main"),
        (_ill_typed, "isnan"),
        (_binary, "byte 0"),
    ],
)
def test_damaged_files_are_refused(saved, damage, message):
    damage(saved)
    with pytest.raises(ImportModelError, match=message):
        torsh_fx.load(saved)


def test_the_name_must_end_in_mlir(compiled, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"\.mlir"):
        compiled.save(tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_is_half_written(compiled, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        compiled.save(tmp_path / "m.mlir")
    assert not list(tmp_path.iterdir())


def test_headers_are_what_safetensors_says(saved):
    data = saved.with_name("m.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert header["w"]["dtype"] == "F32"
    assert (8 + length) % 64 == 0
