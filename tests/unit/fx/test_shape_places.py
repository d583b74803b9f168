"""Extents that constant places need, as `inspect --shapes` reports them.

Oracle: the compiled model takes the least extent that is reported and refuses the one below, and
so does onnxruntime.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch.export import Dim

import torsh_fx
from lowering.cpu.host import host_target
from torsh_dialect.context import Context
from torsh_dialect.errors import TorshError
from torsh_fx.shapes import axis_facts, onnx_facts
from torsh_fx.sources import import_model

make = helper.make_node


def picking(op: str, places: Any, **attributes: int) -> onnx.ModelProto:
    """`op` of x: f32[4, m] and constant places."""
    graph = helper.make_graph(
        [make(op, ["x", "i"], ["y"], name="pick", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, "m"])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.array(places, np.int64), "i")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


CASES = {
    "gather": (picking("Gather", [0, 7, 2], axis=1), 8),
    "gather from the end": (picking("Gather", [0, 7, -9], axis=1), 9),
    "gather one": (picking("Gather", 5, axis=1), 6),
    "gather nd": (picking("GatherND", [[1, 2], [3, 4]]), 5),
    "gather elements": (picking("GatherElements", [[1, 2], [3, 6]], axis=1), 7),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_least_extent_of_constant_places(case: str):
    model, least = CASES[case]
    (fact,) = [f for f in onnx_facts(model, Context(target=host_target())) if f.extent == "m"]
    assert (fact.kind, fact.axis) == ("bounded", 1)
    assert fact.reason.startswith(f"m must be at least {least}, by ")
    assert "pick" in fact.reason
    compiled = torsh_fx.compile(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.arange(4 * least, dtype=np.float32).reshape(4, least)
    np.testing.assert_array_equal(compiled.run([x])[0], session.run(None, {"x": x})[0])
    small = x[:, :-1].copy()
    with pytest.raises(TorshError):
        compiled.run([small])
    with pytest.raises(Exception, match=r"(?i)out of data bounds|indices|index|range"):
        session.run(None, {"x": small})


class Column(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 5]


def test_a_column_of_a_torch_module_names_its_line():
    every = {0: Dim.AUTO, 1: Dim.AUTO}
    imported = import_model(Column(), Context(target=host_target()), (torch.zeros(3, 9),), (every,))
    fact = next(f for f in axis_facts(imported) if f.axis == 1)
    line = Column.forward.__code__.co_firstlineno + 1
    assert fact.kind == "bounded"
    assert re.search(rf"at least 6, by .*{re.escape(__file__)}:{line}", fact.reason)


def test_the_path_of_an_exported_program_is_compiled(tmp_path: Path):
    module, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "m.pt2")
    found = torsh_fx.compile(tmp_path / "m.pt2")(x)
    torch.testing.assert_close(torch.as_tensor(found), module(x).detach())
    (tmp_path / "bad.pt2").write_bytes(b"no program")
    for name, says in (("bad.pt2", "no exported program"), ("none.pt2", "none.pt2")):
        with pytest.raises(TorshError, match=says):
            torsh_fx.compile(str(tmp_path / name))
