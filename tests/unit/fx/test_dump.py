"""`TORSH_DUMP`: every stage of a compilation as a file, and a script that runs the passes again."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.context import Context
from torsh_dialect.settings import Settings, environment_settings
from torsh_fx.pipeline import stages

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model():
    weight = numpy_helper.from_array(np.ones((8, 4), np.float32), "secret")
    node = helper.make_node("MatMul", ["x", "secret"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_every_stage_is_a_file(model, tmp_path):
    torsh_fx.compile(model, settings=Settings(dump_dir=str(tmp_path / "dump")), cache=False)
    (folder,) = (tmp_path / "dump").iterdir()
    names = [one.name for one in stages(Context())]
    expected = [f"{n:02d}-{name}.mlir" for n, name in enumerate(["imported", *names])]
    assert sorted(p.name for p in folder.glob("[0-9]*.mlir")) == expected
    assert "torsh.packed_linear" in (folder / expected[-1]).read_text()
    assert "kern.template" in (folder / "kern.mlir").read_text()
    kernels = {p.stem for p in folder.glob("*.ll")}
    assert kernels == {p.stem for p in folder.glob("*.s")}
    assert {"torsh_plan", "torsh_prepare_plan"} < kernels


def test_the_script_repeats_the_passes(model, tmp_path):
    torsh_fx.compile(model, settings=Settings(dump_dir=str(tmp_path)), cache=False)
    (folder,) = tmp_path.iterdir()
    tool = tmp_path / "torsh-opt"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m tools.torsh_opt "$@"\n')
    tool.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", folder / "repro.sh", "--print-debuginfo"],
        cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    last = max(folder.glob("[0-9]*.mlir"))
    assert done.stdout == last.read_text()


def test_compilations_have_folders_of_their_own(model, tmp_path):
    for _ in range(2):
        torsh_fx.compile(model, settings=Settings(dump_dir=str(tmp_path)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000", "001"]


def test_the_environment_is_read_where_no_settings_are_given(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TORSH_DUMP", str(tmp_path / "here"))
    torsh_fx.compile(model)
    assert (tmp_path / "here" / "000").is_dir()
    torsh_fx.compile(model, settings=Settings())
    assert len(list((tmp_path / "here").iterdir())) == 1


def test_variables():
    assert environment_settings({}) == Settings()
    assert environment_settings({"TORSH_VERIFY_EACH": "1"}).verify_each
    assert environment_settings({"TORSH_INPROCESS": "1"}).in_process
    assert environment_settings({"TORSH_DUMP": "d"}).dump_dir == "d"
    assert environment_settings({"TORSH_DUMP": "", "TORSH_VERIFY_EACH": "0"}) == Settings()
