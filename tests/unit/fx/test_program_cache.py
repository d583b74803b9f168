"""Programs of files are kept whole: what is loaded, what is compiled again, and what runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.errors import ImportModelError, TorshError
from torsh_dialect.settings import Settings

RUN = """
import sys
import numpy as np
import torsh_fx
f = torsh_fx.compile(sys.argv[1], threads=1)
y = f.run([np.load(name) for name in sys.argv[3:]])[0]
np.save(sys.argv[2], y)
print("compiled" if "xdsl" in sys.modules else "kept")
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORSH_CACHE_DIR", str(tmp_path / "cache"))


def normal(*shape: int, seed: int = 0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(seed: int = 0, width: int = 200) -> onnx.ModelProto:
    """relu(x @ w + b) @ v, with a large, a small and a folded weight; x: f32[n, 32]."""
    make = helper.make_node
    arrays = {
        "w": normal(32, width, seed=seed),
        "b": normal(width, seed=seed + 1),
        "v": normal(width, 8, seed=seed + 2),
        "half": np.float32([0.5]),
    }
    nodes = [
        make("Mul", ["v", "half"], ["v2"]),
        make("MatMul", ["x", "w"], ["h"]),
        make("Add", ["h", "b"], ["a"]),
        make("Relu", ["a"], ["r"]),
        make("MatMul", ["r", "v2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def expected(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def in_a_process(path: Path, folder: Path, inputs: Sequence[np.ndarray]) -> tuple[str, np.ndarray]:
    """Whether the program was compiled or kept, and the first output."""
    names = [folder / f"in{i}.npy" for i in range(len(inputs))]
    for name, array in zip(names, inputs, strict=True):
        np.save(name, array)
    done = subprocess.run(
        [sys.executable, "-c", RUN, path, folder / "out.npy", *names],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.strip(), np.load(folder / "out.npy")


def test_a_second_process_needs_no_compiler_and_gives_the_same_bytes(tmp_path: Path):
    model, x = model_of(), normal(3, 32, seed=9)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    first, there = in_a_process(path, tmp_path, [x])
    second, again = in_a_process(path, tmp_path, [x])
    assert (first, second) == ("compiled", "kept")
    assert again.tobytes() == there.tobytes()
    np.testing.assert_allclose(again, expected(model, x), rtol=1e-5, atol=1e-5)


def test_large_initializers_are_read_out_of_the_model(tmp_path: Path):
    model, x = model_of(width=3000), normal(2, 32, seed=9)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    in_a_process(path, tmp_path, [x])
    kept = max((tmp_path / "cache").iterdir(), key=lambda file: file.stat().st_size)
    assert kept.stat().st_size < 200_000 < path.stat().st_size
    found, y = in_a_process(path, tmp_path, [x])
    assert found == "kept"
    np.testing.assert_allclose(y, expected(model, x), rtol=1e-4, atol=1e-4)


def test_external_data_is_read_again_and_a_change_of_it_is_seen(tmp_path: Path):
    path, x = tmp_path / "m.onnx", normal(2, 32, seed=9)
    for seed in (0, 5):
        onnx.save(
            model_of(seed), path, save_as_external_data=True, location="m.bin", size_threshold=64
        )
        how = [in_a_process(path, tmp_path, [x]) for _ in range(2)]
        assert [one for one, _ in how] == ["compiled", "kept"]
        for _, y in how:
            np.testing.assert_allclose(y, expected(model_of(seed), x), rtol=1e-5, atol=1e-5)
        (tmp_path / "m.bin").unlink()
    with pytest.raises(TorshError, match=r"m\.bin"):
        torsh_fx.compile(path)


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total += x
        return self.total * 2


def test_saved_text_with_state_is_kept(tmp_path: Path):
    x = np.float32([1, 2, 3])
    torsh_fx.compile(Counter(), (torch.from_numpy(x),)).save(tmp_path / "m.mlir")
    compiled, kept = (torsh_fx.load(tmp_path / "m.mlir") for _ in range(2))
    assert is_kept(kept)
    assert not is_kept(compiled)
    for one in (compiled, kept):
        session = one.session()
        for turn in (1, 2, 3):
            np.testing.assert_array_equal(session(x), 2 * turn * x)
        np.testing.assert_array_equal(one(x), 2 * x)


def is_kept(model) -> bool:
    return "load" in model.report.seconds


def test_options_and_content_tell_programs_apart(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of(), path)
    variants = [
        {},
        {"settings": Settings(numerics="strict")},
        {"settings": Settings(disabled_rewrites=frozenset({"winograd", "recognize"}))},
        {"settings": Settings(random="mt19937")},
        {"dynamic_shapes": {"n": 4}},
        {"dynamic_shapes": {"n": (1, 4)}},
        {"target": "x86-64-v2"},
    ]
    for variant in variants:
        assert not is_kept(torsh_fx.compile(path, **variant)), variant
        again = torsh_fx.compile(path, **variant)
        assert is_kept(again), variant
        assert again.report.source_nodes == 5
        if "dynamic_shapes" in variant:
            with pytest.raises(TorshError):
                again.run([normal(5, 32)])
        else:
            assert again.run([normal(5, 32)])[0].shape == (5, 8)
    onnx.save(model_of(seed=7), path)
    x = normal(2, 32)
    changed = torsh_fx.compile(path)
    assert not is_kept(changed)
    np.testing.assert_allclose(changed.run([x])[0], expected(model_of(seed=7), x), rtol=1e-4)


def test_without_cache_or_with_debugging_everything_is_compiled(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of(), path)
    torsh_fx.compile(path)
    assert not is_kept(torsh_fx.compile(path, cache=False))
    assert not is_kept(torsh_fx.compile(path, settings=Settings(dump_dir=str(tmp_path / "d"))))
    assert (tmp_path / "d" / "000" / "kern.mlir").is_file()
    assert is_kept(torsh_fx.compile(path))


def test_a_converter_of_the_user_is_never_passed_over(tmp_path: Path):
    from torsh_fx.importers.onnx_ops.node import CONVERTERS

    path = tmp_path / "m.onnx"
    onnx.save(model_of(), path)
    torsh_fx.compile(path)
    CONVERTERS[("mine", "Own")] = lambda node: node.operands(1)
    try:
        assert not is_kept(torsh_fx.compile(path))
    finally:
        del CONVERTERS[("mine", "Own")]
    assert is_kept(torsh_fx.compile(path))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "objects gone"])
def test_damaged_entries_are_compiled_again(tmp_path: Path, damage: str):
    path, x = tmp_path / "m.onnx", normal(2, 32)
    onnx.save(model_of(), path)
    torsh_fx.compile(path)
    for file in (tmp_path / "cache").iterdir():
        data = file.read_bytes()
        is_program = b'"interface"' in data
        if is_program and damage == "cut":
            file.write_bytes(data[:-3])
        elif is_program and damage == "flipped":
            file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        elif is_program == (damage == "gone"):
            file.unlink()
    again = torsh_fx.compile(path)
    assert not is_kept(again)
    np.testing.assert_allclose(again.run([x])[0], expected(model_of(), x), rtol=1e-4, atol=1e-5)
    assert is_kept(torsh_fx.compile(path))


def test_a_kept_model_can_do_what_a_compiled_one_can(tmp_path: Path):
    path, x = tmp_path / "m.onnx", normal(2, 32)
    onnx.save(model_of(), path)
    compiled, kept = torsh_fx.compile(path), torsh_fx.compile(path)
    assert is_kept(kept)
    assert str(kept.graph) == str(compiled.graph)
    assert str(kept.optimised) == str(compiled.optimised)
    assert kept.validate([(x,)]).passed
    kept.save(tmp_path / "again.mlir")
    assert (
        torsh_fx.load(tmp_path / "again.mlir").run([x])[0].tobytes() == kept.run([x])[0].tobytes()
    )
    kept.update_weights({"w": np.zeros((32, 200), np.float32)})
    compiled.update_weights({"w": np.zeros((32, 200), np.float32)})
    assert kept.run([x])[0].tobytes() == compiled.run([x])[0].tobytes()
    assert not np.array_equal(kept.run([x])[0], expected(model_of(), x))
    table = kept.profile(x).table()
    assert "MatMul" in table


def test_a_model_that_changed_behind_a_kept_program_is_not_shown_as_it(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of(), path)
    torsh_fx.compile(path)
    kept = torsh_fx.compile(path)
    onnx.save(model_of(seed=3), path)
    with pytest.raises(ImportModelError, match="is not what it was"):
        _ = kept.graph
    x = normal(2, 32)
    np.testing.assert_allclose(kept.run([x])[0], expected(model_of(), x), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the owner of a file")
def test_an_entry_of_another_user_is_not_believed(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of(), path)
    torsh_fx.compile(path)
    for file in (tmp_path / "cache").iterdir():
        os.chown(file, 12345, -1)
    assert not is_kept(torsh_fx.compile(path))
