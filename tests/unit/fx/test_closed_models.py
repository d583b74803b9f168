"""What is closed is refused by one error, whatever it was; what describes a model stays."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch_oracle import Total

import torsh_fx
from torsh_dialect.errors import ExecutionError
from torsh_fx.compiled import CompiledModule
from torsh_fx.hosted import HostedModule
from torsh_fx.linked import LinkedModel
from torsh_fx.packaged import PackagedModel, runner
from torsh_package import Package

CLOSED = "^the model was closed; compile or load it again$"
X = np.float32([1, -2])


def value(name: str, *dims: int | str, element: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, dims)


def model_of(nodes, *, weight: bool = True):
    """An ONNX model from x: f32[2] to y, with the weight w: f32[2]."""
    stored = [numpy_helper.from_array(np.float32([3, 4]), "w")] if weight else []
    graph = helper.make_graph(nodes, "g", [value("x", 2)], [value("y", "n")], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


NODE = helper.make_node
PLAIN = [NODE("Mul", ["x", "w"], ["y"])]
DRAWS = [
    NODE("RandomUniformLike", ["x"], ["r"]),
    NODE("Mul", ["x", "w"], ["m"]),
    NODE("Add", ["m", "r"], ["y"]),
]
SEQUENCE = [
    NODE("SequenceConstruct", ["m", "m"], ["s"]),
    NODE("ArgMax", ["m"], ["i"], keepdims=0),
    NODE("SequenceAt", ["s", "i"], ["y"]),
]
"""Of two equal items the one that data chooses, which a host function does."""
HOSTED = [NODE("Mul", ["x", "w"], ["m"]), *SEQUENCE]
HOSTED_DRAWS = [
    NODE("RandomUniformLike", ["x"], ["r"]),
    NODE("Mul", ["x", "w"], ["a"]),
    NODE("Add", ["a", "r"], ["m"]),
    *SEQUENCE,
]


def compiled(nodes) -> Callable[[Path], LinkedModel]:
    return lambda folder: torsh_fx.compile(model_of(nodes))


def packaged(nodes) -> Callable[[Path], LinkedModel]:
    def load(folder: Path) -> LinkedModel:
        torsh_fx.compile(model_of(nodes)).save(folder / "m.torshpkg")
        return torsh_fx.load(folder / "m.torshpkg")

    return load


def counter(folder: Path) -> LinkedModel:
    return torsh_fx.compile(Total(2, times=1), (torch.ones(2),))


def packaged_counter(folder: Path) -> LinkedModel:
    counter(folder).save(folder / "m.torshpkg")
    return torsh_fx.load(folder / "m.torshpkg")


MAKERS: dict[str, tuple[type[LinkedModel], Callable[[Path], LinkedModel]]] = {
    "compiled": (CompiledModule, compiled(PLAIN)),
    "compiled, draws": (CompiledModule, compiled(DRAWS)),
    "compiled, keeps": (CompiledModule, counter),
    "packaged": (PackagedModel, packaged(PLAIN)),
    "packaged, draws": (PackagedModel, packaged(DRAWS)),
    "packaged, keeps": (PackagedModel, packaged_counter),
    "hosted": (HostedModule, compiled(HOSTED)),
    "hosted, draws": (HostedModule, compiled(HOSTED_DRAWS)),
}

DESCRIPTION = {
    "close", "entrypoint", "flat_arrays", "flat_inputs", "host_ops", "input_names", "interface",
    "is_closed", "natives", "output_names", "package", "report", "source", "states", "structured",
    "target",
}  # fmt: skip
"""What needs no open model: its names and types, and what arranges the arguments of a call."""

REFUSED: dict[str, Callable[[Any], object]] = {
    "__call__": lambda model: model(X),
    "forward": lambda model: model.forward(X),
    "run": lambda model: model.run([X]),
    "run_into": lambda model: model.run_into([X], [X * 0]),
    "run_keeping": lambda model: model.run_keeping([X], {}),
    "flat_outputs": lambda model: model.flat_outputs([X], {}),
    "session": lambda model: model.session(),
    "seed": lambda model: model.seed(1),
    "profile": lambda model: model.profile(X),
    "validate": lambda model: model.validate([(X,)]),
    "save": lambda model: model.save("m.mlir"),
    "update_weights": lambda model: model.update_weights({}),
    "load_weights": lambda model: model.load_weights({"w": X}),
    "set_parameter": lambda model: model.set_parameter("w", X),
}
"""Calls of methods; properties are read."""

PACKAGE_ONLY = {"forward", "load_weights", "set_parameter"}


@pytest.fixture(params=MAKERS)
def open_model(request: pytest.FixtureRequest, tmp_path: Path) -> LinkedModel:
    kind, make = MAKERS[request.param]
    model = make(tmp_path)
    assert type(model) is kind
    return model


def public(model: LinkedModel) -> set[str]:
    """Names of everything public of a model, with `__call__`."""
    return {"__call__", *(name for name in {*dir(type(model)), *vars(model)} if name[0] != "_")}


def test_everything_public_of_a_closed_model_gives_one_error_or_describes_it(
    open_model: LinkedModel,
):
    model = open_model
    names, inputs = model.interface, model.input_names
    model(X)
    with model:
        pass
    assert model.is_closed
    assert (model.interface, model.input_names) == (names, inputs)
    seen = set[str]()
    for name in sorted(public(model) - DESCRIPTION):
        found = inspect.getattr_static(model, name)
        if name in REFUSED:
            used = lambda name=name: REFUSED[name](model)  # noqa: E731
        else:
            assert not inspect.isfunction(found), f"{name} is called by no row of this test"
            used = lambda name=name: getattr(model, name)  # noqa: E731
        with pytest.raises(ExecutionError, match=CLOSED):
            used()
        seen.add(name)
    only = PACKAGE_ONLY if isinstance(model, PackagedModel) else set[str]()
    assert {"executable", "program", "in_place", "state_arrays", *only} <= seen
    model.close()


def test_an_open_model_refuses_none_of_it_for_being_closed(open_model: LinkedModel):
    said: dict[str, str] = {}
    for name in sorted(public(open_model) - DESCRIPTION - {"save"}):
        try:
            REFUSED.get(name, lambda model, name=name: getattr(model, name))(open_model)
        except torsh_fx.TorshError as error:
            said[name] = str(error)
    assert not [name for name, words in said.items() if "closed" in words]
    assert not {"__call__", "flat_outputs", "session", "state_arrays", "in_place"} & set(said)


def test_a_session_of_a_closed_model_refuses_calls_and_keeps_its_state(open_model: LinkedModel):
    session = open_model.session()
    session(X)
    before = session.state
    open_model.close()
    for _ in range(2):  # not the error of a call that may have torn the state
        with pytest.raises(ExecutionError, match=CLOSED):
            session(X)
    after = session.state
    assert after.keys() == before.keys() == {one.name for one in open_model.states}
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_packaged_model_may_leave_the_stream_out_as_a_compiled_one(tmp_path: Path):
    ours, theirs = compiled(DRAWS)(tmp_path), packaged(DRAWS)(tmp_path)
    (first,), (same,) = ours.run([X]), theirs.run([X])
    assert same.tobytes() == first.tobytes()
    for given in ([X], {"x": X}, [X]):
        (expected,), (found,) = ours.run(given), theirs.run(given)
        assert found.tobytes() == expected.tobytes() != first.tobytes()
    assert theirs(X).tobytes() == ours(X).tobytes()
    with Package.load(tmp_path / "m.torshpkg") as package:  # as entry points of packages run
        named = runner(package)(package.entrypoints["main"], {"x": X})
    assert {name: array.tobytes() for name, array in named.items()} == {"y": first.tobytes()}
    whole = [X, theirs.state_arrays[0]]
    assert [a.tobytes() for a in theirs.run(whole)] == [a.tobytes() for a in ours.run(whole)]


def test_a_hosted_model_may_leave_the_stream_out(tmp_path: Path):
    hosted, plain = compiled(HOSTED_DRAWS)(tmp_path), compiled(DRAWS)(tmp_path)
    for _ in range(3):
        (found,), (expected,) = hosted.run([X]), plain.run([X])
        np.testing.assert_array_equal(found, expected)
    assert hosted.seed(4) == plain.seed(4)
    np.testing.assert_array_equal(hosted(X), plain(X))


@pytest.mark.parametrize("nodes", [DRAWS, HOSTED, HOSTED_DRAWS], ids=["draws", "hosted", "both"])
def test_calls_that_run_while_a_model_is_closed_finish(tmp_path: Path, nodes):
    """They end with a result or are refused: neither meets a half of the model."""
    for _ in range(5):
        model = compiled(nodes)(tmp_path)
        outcomes: list[object] = []
        started = threading.Barrier(4)

        def caller(model=model, outcomes=outcomes, started=started):
            started.wait()
            try:
                while True:
                    outcomes.append(len(model.run([X])))
            except BaseException as error:
                outcomes.append(error)

        threads = [threading.Thread(target=caller) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        while len(outcomes) < 20 and any(thread.is_alive() for thread in threads):
            pass
        model.close()
        for thread in threads:
            thread.join(timeout=60)
        errors = [one for one in outcomes if one != 1]
        assert len(errors) == 3
        assert all(type(one) is ExecutionError for one in errors)
        assert {str(one) for one in errors} == {CLOSED.strip("^$")}
