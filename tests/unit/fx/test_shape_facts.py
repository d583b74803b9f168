"""What a model asks of its inputs' extents: free, bounded, derived, fixed, and by which op.

Oracle: the model itself. An extent that is said to be fixed or related is refused, and a free one
is taken, when the compiled model is called with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.export import Dim

import torsh_fx
from lowering.cpu.host import host_target
from tools.torsh import main
from torsh_dialect.context import Context
from torsh_dialect.errors import InputError
from torsh_fx.shapes import AxisFact, axis_facts, onnx_facts
from torsh_fx.sources import import_model


def context() -> Context:
    return Context(target=host_target())


class Related(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x, y, z):
        return (self.linear(x) + y).reshape(3, -1, 4), z.nonzero()


def torch_facts() -> tuple[dict[tuple[str, int], AxisFact], list[AxisFact]]:
    every = {0: Dim.AUTO, 1: Dim.AUTO}
    example = (torch.randn(6, 8), torch.randn(6, 4), torch.randn(5))
    imported = import_model(Related(), context(), example, (every, every, {0: Dim.AUTO}))
    facts = axis_facts(imported)
    return {(f.name, f.axis): f for f in facts if f.name}, [f for f in facts if not f.name]


def test_a_torch_module_names_op_and_line():
    facts, found = torch_facts()
    line = Related.forward.__code__.co_firstlineno + 1
    assert facts["x", 1].kind == "fixed"
    assert facts["x", 1].reason == f"by linear at linear.linear ({__file__}:{line})"
    assert (facts["y", 0].kind, facts["y", 0].reason) == ("derived", "equal to axis 0 of x")
    assert facts["x", 0].kind == "bounded"
    assert "floordiv" in facts["x", 0].reason
    assert "reshape" in facts["x", 0].reason
    assert facts["z", 0].kind == "bounded"  # torch's own reading of Dim.AUTO
    assert facts["z", 0].reason.endswith(" in 2..")
    assert [f.kind for f in found] == ["derived"]
    assert "from data, by nonzero" in found[0].reason


def convolution(*extents: int | str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="stem"),
        helper.make_node("Add", ["a", "b"], ["y"], name="skip"),
    ]
    w = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")

    def value(name, dims):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    graph = helper.make_graph(
        nodes, "g", [value("x", extents), value("b", ["n", 4, "p", "p"])],
        [value("y", [None] * 4)], [w],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_symbols_of_an_onnx_model():
    model = convolution("n", "c", "h", 5)
    facts = {(f.name, f.axis): f for f in axis_facts(import_model(model, context()))}
    assert facts["x", 0].kind == "free"
    assert facts["x", 1].kind == "fixed"
    assert facts["x", 1].reason == "equal to 3 by conv at stem (Conv)"
    assert facts["b", 0].reason == "equal to axis 0 of x"
    assert (facts["x", 2].kind, facts["x", 3].kind) == ("bounded", "fixed")
    compiled = torsh_fx.compile(model)
    x, b = np.ones((2, 3, 5, 5), np.float32), np.ones((2, 4, 5, 5), np.float32)
    np.testing.assert_array_equal(compiled(x, b), np.full((2, 4, 5, 5), 4))
    with pytest.raises(InputError, match=r"c = 2 .* 3"):
        compiled(x[:, :2], b)
    with pytest.raises(InputError, match=r"bcast\(h, p\) = 4"):
        compiled(x[:, :, :4], b)


NORMS = {
    "LayerNormalization": (1, 2, {}),
    "RMSNormalization": (1, 2, {}),
    "InstanceNormalization": (2, 1, {}),
    "GroupNormalization": (2, 1, {"num_groups": 2}),
    "BatchNormalization": (4, 1, {}),
}
"""Names: how many weights, which axis they fix, attributes."""


@pytest.mark.parametrize("name", list(NORMS))
def test_weights_of_norms_fix_their_axis_and_no_other(name: str):
    count, axis, attributes = NORMS[name]
    weights = [numpy_helper.from_array(np.ones(8, np.float32), f"w{n}") for n in range(count)]
    inputs = ["x", *(w.name for w in weights)]
    node = helper.make_node(name, inputs, ["y"], name="norm", **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", "c"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opset = [helper.make_opsetid("", 23)]
    graph = helper.make_graph([node], "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    facts = {f.axis: f for f in axis_facts(import_model(model, context()))}
    assert {n: fact.kind for n, fact in facts.items()} == {
        n: "fixed" if n == axis else "free" for n in range(3)
    }
    assert facts[axis].reason.startswith("equal to 8 by ")
    assert facts[axis].reason.endswith(f" at norm ({name})")
    compiled = torsh_fx.compile(model)
    for extent in (7, 8, 16):
        for others in (1, 3):
            dims = [extent if n == axis else others for n in range(3)]
            if extent == 8:
                assert compiled(np.ones(dims, np.float32)).shape == tuple(dims)
            else:
                with pytest.raises(InputError):
                    compiled(np.ones(dims, np.float32))


def test_numbers_that_no_node_asks_for_are_told():
    facts = {(f.name, f.axis): f for f in onnx_facts(convolution(1, 3, 7, 7), context())}
    assert facts["x", 1].reason == "declared so; equal to 3 by conv at stem (Conv)"
    assert facts["x", 0].kind == facts["x", 2].kind == "fixed"
    alone = convolution(1, 3, 7, 7)
    del alone.graph.node[1:], alone.graph.input[1:]
    alone.graph.node[0].output[0] = "y"
    facts = {(f.name, f.axis): f for f in onnx_facts(alone, context())}
    free = [axis for (_, axis), fact in facts.items() if "no op asks" in fact.reason]
    assert free == [0, 2, 3]


def test_inspect_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    onnx.save(convolution("n", "c", "h", 5), tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx"), "--shapes"]) == 0
    out = capsys.readouterr().out
    assert "equal to 3 by conv at stem (Conv)" in out
    assert [line.split()[3] for line in out.splitlines()[1:3]] == ["free", "fixed"]
