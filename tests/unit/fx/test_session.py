"""Sessions: state that calls leave and find, against the eager module and ONNX Runtime."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import torsh_fx
from torsh_dialect.errors import ExecutionError, InputError, InvalidArgumentError

HEADS, LENGTH, WIDTH = 2, 16, 8
ROOT = Path(__file__).parents[3]


class Cache(nn.Module):
    """Keys and values of the tokens so far in buffers that one of several in-place ops writes."""

    def __init__(self, write: str):
        super().__init__()
        self.write, self.q = write, nn.Linear(WIDTH, WIDTH)
        for name in ("k", "v"):
            self.register_buffer(name, torch.zeros(1, HEADS, LENGTH, WIDTH))

    def put(self, cache, x, position):
        if self.write == "index_copy":
            cache.index_copy_(2, position, x)
        elif self.write == "index_put":
            cache[:, :, position] = x
        elif self.write == "scatter":
            cache.scatter_(2, position.view(1, 1, 1, 1).expand_as(x), x)
        elif self.write == "slice":
            cache[:, :, 2:3] = x
        elif self.write == "twice":
            cache.index_copy_(2, position, x)
            cache.index_copy_(2, position + 1, x * 2)
        elif self.write == "roll":
            cache.copy_(torch.cat([cache[:, :, 1:], x], 2))
        else:
            cache.mul_(0.5).add_(x)

    def forward(self, x, position):
        before = self.k.sum() if self.write == "twice" else 0
        self.put(self.k, x, position)
        self.put(self.v, 2 * x, position)
        weights = torch.softmax(self.q(x) @ self.k.transpose(-1, -2), -1)
        return weights @ self.v + before


IN_PLACE = ("index_copy", "index_put", "scatter", "twice", "slice")


@pytest.mark.parametrize("write", [*IN_PLACE, "roll", "whole"])
def test_a_cache_in_buffers_is_what_the_eager_module_keeps(write):
    module = Cache(write).eval()
    example = (torch.randn(1, HEADS, 1, WIDTH), torch.tensor([0]))
    compiled = torsh_fx.compile(module, example)
    assert len(compiled.in_place) == (2 if write in IN_PLACE else 0)
    session, other, eager = compiled.session(), compiled.session(), copy.deepcopy(module)
    for step in range(6):
        x, position = torch.randn(1, HEADS, 1, WIDTH), torch.tensor([(5 * step) % (LENGTH - 1)])
        with torch.no_grad():
            expected = eager(x, position)
        torch.testing.assert_close(session(x, position), expected, rtol=1e-5, atol=1e-5)
    for name, value in session.state.items():
        np.testing.assert_array_equal(value, getattr(eager, name).numpy())
    with torch.no_grad():
        torch.testing.assert_close(other(*example), copy.deepcopy(module)(*example))
    session.reset()
    assert not session.state["k"].any()


@pytest.mark.parametrize("write", ["index_copy", "roll"])
def test_a_call_neither_allocates_nor_moves_state(write):
    module = Cache(write).eval()
    x, position = torch.randn(1, HEADS, 1, WIDTH), torch.tensor([1])
    session = torsh_fx.compile(module, (x, position)).session()
    places: list[set[int]] = [set() for _ in session._cells]
    for _ in range(6):
        session(x, position)
        for found, cell in zip(places, session._cells, strict=True):
            found.add(cell.value.ctypes.data)
    assert [len(found) for found in places] == [1 if write in IN_PLACE else 2] * 2


class Returned(nn.Module):
    """Gives the buffer as it was before it was changed: nothing may be written in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(4, 3))

    def forward(self, x, place):
        before = self.rows.clone()
        view = self.rows[1:]
        self.rows.index_copy_(0, place, x)
        return before, view.sum(0)


def test_what_is_read_after_the_write_is_not_overwritten():
    module, eager = Returned().eval(), Returned().eval()
    x, place = torch.randn(1, 3), torch.tensor([2])
    compiled = torsh_fx.compile(module, (x, place))
    assert compiled.in_place == ()
    session = compiled.session()
    for step in range(4):
        arguments = torch.randn(1, 3), torch.tensor([step])
        for ours, theirs in zip(session(*arguments), eager(*arguments), strict=True):
            torch.testing.assert_close(ours, theirs)


class Streaming(nn.Module):
    """A recurrent cell whose state is a buffer."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 5), nn.Linear(5, 2)
        self.register_buffer("h", torch.zeros(2, 5))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.h.copy_(self.cell(x, self.h))
        self.steps += 1
        return self.head(self.h) * self.steps


def test_streaming_state_of_a_cell():
    module, eager = Streaming().eval(), None
    eager = copy.deepcopy(module)
    compiled = torsh_fx.compile(module, (torch.randn(2, 3),))
    session = compiled.session()
    for _ in range(5):
        x = torch.randn(2, 3)
        with torch.no_grad():
            torch.testing.assert_close(session(x), eager(x), rtol=1e-5, atol=1e-5)
    saved = session.state
    assert saved["steps"] == 5
    x = torch.randn(2, 3)
    first = session(x)
    assert saved["steps"] == 5  # a copy
    session.set(saved)
    assert torch.equal(session(x), first)
    again = compiled.session(first=saved)
    assert torch.equal(again(x), first)


def past_and_present(extent: int | str) -> onnx.ModelProto:
    """One head of attention over past keys and values, which grow by a token a call."""
    make = helper.make_node
    nodes = [
        make("Concat", ["past_k", "x"], ["present_k"], axis=1),
        make("MatMul", ["x", "w"], ["v"]),
        make("Concat", ["past_v", "v"], ["present_v"], axis=1),
        make("Transpose", ["present_k"], ["kt"], perm=[0, 2, 1]),
        make("MatMul", ["x", "kt"], ["scores"]),
        make("Softmax", ["scores"], ["weights"]),
        make("MatMul", ["weights", "present_v"], ["y"]),
    ]

    def value(name, *dims):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    w = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32)
    graph = helper.make_graph(
        nodes,
        "decode",
        [value("past_k", 1, extent, WIDTH), value("x", 1, 1, WIDTH),
         value("past_v", 1, extent, WIDTH)],
        [value("present_k", 1, None, WIDTH), value("y", 1, 1, WIDTH),
         value("present_v", 1, None, WIDTH)],
        [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CARRIED = {"past_k": "present_k", "past_v": "present_v"}


def test_past_and_present_of_an_onnx_model_by_name():
    model = past_and_present("past")
    peer = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    empty = np.zeros((1, 0, WIDTH), np.float32)
    compiled = torsh_fx.compile(model)
    session = compiled.session(carried=CARRIED, first=dict.fromkeys(CARRIED, empty))
    past = dict.fromkeys(CARRIED, empty)
    for step in range(40):
        x = np.random.default_rng(step).standard_normal((1, 1, WIDTH), np.float32)
        k, y, v = peer.run(None, {"x": x, **past})
        past = {"past_k": k, "past_v": v}
        np.testing.assert_allclose(session(x=x), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(session.state["past_k"], past["past_k"])
    assert session.state["past_v"].shape == (1, 40, WIDTH)
    session.reset()
    assert session.state["past_v"].shape == (1, 0, WIDTH)
    assert compiled.executable._idle[0].plans <= 41  # a plan for each length, no compilation


def test_names_that_a_session_does_not_know_are_refused():
    compiled = torsh_fx.compile(past_and_present(3))
    first = np.zeros((1, 3, WIDTH), np.float32)
    with pytest.raises(InvalidArgumentError, match="first value of past_k is missing"):
        compiled.session(carried={"past_k": "present_k"})
    with pytest.raises(InvalidArgumentError, match="no output is called 'future'"):
        compiled.session(carried={"past_k": "future"}, first={"past_k": first})
    pairs = {"past_k": "present_k", "past_v": "present_k"}
    with pytest.raises(InvalidArgumentError, match="carried from one output"):
        compiled.session(carried=pairs, first=dict.fromkeys(pairs, first))
    with pytest.raises(InvalidArgumentError, match="no state is called other"):
        compiled.session(first={"other": first})


class Indexed(nn.Module):
    """Writes at a position that the caller gives, which may not exist."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(4, 3))

    def forward(self, x, place):
        self.rows.index_copy_(0, place, x)
        return self.rows * 2


def test_a_call_that_failed_midway_leaves_no_state_that_could_be_used():
    x = torch.randn(1, 3)
    compiled = torsh_fx.compile(Indexed().eval(), (x, torch.tensor([0])))
    session = compiled.session()
    with pytest.raises(InputError):
        session(torch.randn(2, 3), torch.tensor([0]))  # refused before it ran
    session(x, torch.tensor([1]))
    saved = session.state
    with pytest.raises(ExecutionError, match="an index is 9"):
        session(x, torch.tensor([9]))
    with pytest.raises(ExecutionError, match=r"reset\(\) the session"):
        session(x, torch.tensor([1]))
    session.set(saved)
    torch.testing.assert_close(session(x, torch.tensor([1]))[1], 2 * x[0])


PACKAGED = """
import sys
import numpy as np
import torsh_fx
session = torsh_fx.load(sys.argv[1]).session()
steps, found = np.load(sys.argv[2]), {}
for step, x in enumerate(steps["x"]):
    found[str(step)] = session(x, np.asarray([step % 5]))
np.savez(sys.argv[3], **found, **session.state)
print(*(name for name in ("xdsl", "torch", "onnx") if name in sys.modules))
"""


def test_a_package_keeps_state_in_a_process_without_the_compiler(tmp_path):
    module = Cache("index_copy").eval()
    example = (torch.randn(1, HEADS, 1, WIDTH), torch.tensor([0]))
    torsh_fx.compile(module, example).save(tmp_path / "cache.torshpkg")
    x = np.random.default_rng(3).standard_normal((7, 1, HEADS, 1, WIDTH)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    paths = [tmp_path / name for name in ("cache.torshpkg", "x.npz", "y.npz")]
    done = subprocess.run(
        [sys.executable, "-c", PACKAGED, *paths], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == []
    found, eager = np.load(tmp_path / "y.npz"), copy.deepcopy(module)
    for step, value in enumerate(x):
        with torch.no_grad():
            expected = eager(torch.from_numpy(value), torch.tensor([step % 5])).numpy()
        np.testing.assert_allclose(found[str(step)], expected, rtol=1e-5, atol=1e-5)
    for name in ("k", "v"):
        np.testing.assert_array_equal(found[name], getattr(eager, name).numpy())


def test_a_packaged_session_neither_allocates_nor_moves_state_and_starts_anew(tmp_path):
    module = Cache("index_copy").eval()
    x, position = torch.randn(1, HEADS, 1, WIDTH), torch.tensor([1])
    torsh_fx.compile(module, (x, position)).save(tmp_path / "cache.torshpkg")
    model = torsh_fx.load(tmp_path / "cache.torshpkg")
    session = model.session()
    places = {(session(x, position), *(c.value.ctypes.data for c in session._cells))[1:]
              for _ in range(4)}  # fmt: skip
    assert len(places) == 1
    saved = session.state
    session.reset()
    assert not session.state["k"].any()
    again = model.session(first=saved)
    session.set(saved)
    assert torch.equal(again(x, position), session(x, position))


def test_past_and_present_of_a_package_by_name(tmp_path):
    compiled = torsh_fx.compile(past_and_present("past"))
    compiled.save(tmp_path / "decode.torshpkg")
    empty = np.zeros((1, 0, WIDTH), np.float32)
    first = dict.fromkeys(CARRIED, empty)
    sessions = [
        model.session(carried=CARRIED, first=first)
        for model in (compiled, torsh_fx.load(tmp_path / "decode.torshpkg"))
    ]
    for step in range(9):
        x = np.random.default_rng(step).standard_normal((1, 1, WIDTH), np.float32)
        ours, theirs = (session(x=x) for session in sessions)
        assert ours.tobytes() == theirs.tobytes()
    assert sessions[1].state["past_k"].shape == (1, 9, WIDTH)
    with pytest.raises(InvalidArgumentError, match="no output is called 'future'"):
        torsh_fx.load(tmp_path / "decode.torshpkg").session(
            carried={"past_k": "future"}, first={"past_k": empty}
        )
