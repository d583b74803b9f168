"""One report of everything that is refused, and an account of every node of the source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.context import Context
from torsh_dialect.errors import UnsupportedError
from torsh_fx.importers.model import Fate
from torsh_fx.importers.onnx import import_onnx
from torsh_fx.importers.onnx_ops import node as onnx_node
from torsh_fx.importers.torch_export import functional, import_exported_program
from torsh_fx.importers.torch_ops import base as torch_base

F = TensorProto.FLOAT


def onnx_model(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> onnx.ModelProto:
    """x: f32[2, 3] in, y out."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [2, 3])],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


MAKE = helper.make_node
TRACE = 'File "/home/me/model.py", line 12, in forward\n    return foo(x)'


def faulty() -> onnx.ModelProto:
    """Five nodes that are refused, one that depends on them, one that nothing needs."""
    unknown = MAKE("FooBar", ["x", ""], ["a", "b"], domain="ours", name="first", gain=2.0)
    unknown.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
    unknown.metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'encoder.layer', 'foo']"
    )
    return onnx_model(
        [
            unknown,
            MAKE("Relu", ["x", "x"], ["c"], name="twice"),
            MAKE("Cast", ["x"], ["d"], name="where_to"),
            MAKE("ReduceSum", ["x", "axes"], ["e"], name="axes_wrong"),
            MAKE("Baz", ["a"], ["f"], domain="ours", name="behind"),
            MAKE("Neg", ["x"], ["nobody"], name="dead"),
            MAKE("Neg", ["a"], ["n"], name="depends"),
            MAKE("Sum", ["b", "c", "d", "e", "f", "n"], ["y"], name="all"),
        ],
        axes=np.array([0.5], np.float32),
    )


def test_onnx_report_lists_everything_with_place_and_remedy():
    with pytest.raises(UnsupportedError) as caught:
        torsh_fx.compile(faulty())
    found = {f.node: f for f in caught.value.findings}
    assert list(found) == ["first", "twice", "where_to", "axes_wrong", "behind"]
    assert found["first"].op == "ours::FooBar-1"
    assert found["first"].location == "encoder.layer (/home/me/model.py:12)"
    assert found["twice"].reason == "2 inputs, expected 1"
    assert found["where_to"].reason == "attribute 'to' is missing"
    assert found["axes_wrong"].reason == "input 1 holds elements of kind float, expected int"
    text = str(caught.value)
    assert text.startswith("g: 5 node(s) not supported; 2 more depend on them:\n")
    for finding in found.values():
        assert str(finding) in text
        assert finding.remedy
    assert text.count("@converter(") == 2


def stubs(text: str) -> str:
    return text.partition("Converters to complete, and to run before compiling:")[2]


def test_onnx_stubs_can_be_pasted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_node, "CONVERTERS", onnx_node.CONVERTERS.copy())
    from torsh_fx.importers import onnx_graph

    monkeypatch.setattr(onnx_graph, "CONVERTERS", onnx_node.CONVERTERS)
    nodes = [
        MAKE("FooBar", ["x", "", "x"], ["a", "b"], domain="ours", gain=2.0),
        MAKE("Baz", ["b"], ["y"], domain="ours"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        torsh_fx.compile(onnx_model(nodes))
    exec(stubs(str(caught.value)), {})
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(torsh_fx.compile(onnx_model(nodes))(x=x), x)


@pytest.mark.parametrize(
    "node",
    [
        MAKE("Pad", ["x", "far"], ["y"], name="it"),
        MAKE("Slice", ["x", "axes"], ["y"], name="it"),
        MAKE("Gather", ["x", "far"], ["y"], name="it", axis=5),
        MAKE("Concat", ["x"], ["y"], name="it"),
        MAKE("Split", ["x"], ["y"], name="it", num_outputs=7.5),
        MAKE("LayerNormalization", ["x", "far"], ["y"], name="it", bogus=1),
    ],
    ids=lambda node: node.op_type,
)
def test_malformed_nodes_are_told_in_words_of_the_model(node: onnx.NodeProto):
    with pytest.raises(UnsupportedError) as caught:
        torsh_fx.compile(onnx_model([node], far=np.array([2**62, 0, 0, 0]), axes=np.array([0])))
    (finding,) = caught.value.findings
    assert finding.node == "it"
    assert not re.search("unpack|index out of range|NoneType|positional", str(caught.value))


def two(operator: str, dims: list[Any], dtype: int = TensorProto.INT64, **more: Any):
    """A node `it` of x: f32[2, n] and an input i, as a model."""
    node = MAKE(operator, ["x", "i", *more.pop("behind", [])], ["y"], name="it", **more)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", F, [2, "n"]),
            helper.make_tensor_value_info("i", dtype, dims),
        ],
        [helper.make_tensor_value_info("y", F, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


X = np.ones((2, 3), np.float32)
MOST = np.array(2**63 - 1)
AT_RUN_TIME = {
    "gather": (two("Gather", [1]), [-5], r"an index is -5, outside of an axis of extent 2"),
    "gather-behind": (two("Gather", [1]), [7], r"an index is 7, outside of an axis of extent 2"),
    "elements": (two("GatherElements", [1, 1]), [[-4]], r"an index is -4, .* extent 2"),
    "pad": (two("Pad", [4]), [0, -9, 0, 0], r"it \(Pad\): .* = 9 must be at most n = 3"),
    "expand": (two("Expand", [2]), [2**40, 1], r"it \(Expand\): the extent .* 1099511627776"),
}


@pytest.mark.parametrize("name", AT_RUN_TIME)
def test_errors_of_data_tell_what_was_given_and_where(name: str):
    model, data, says = AT_RUN_TIME[name]
    compiled = torsh_fx.compile(model, threads=1)
    with pytest.raises(torsh_fx.TorshError, match=says):
        compiled(x=X, i=np.array(data))


def test_pads_below_nothing_are_told_where_nobody_else_would_see_them():
    """The sum over -6 columns would be 0."""
    model = two("Pad", [4])
    model.graph.node[0].output[0] = "p"
    model.graph.node.append(MAKE("ReduceSum", ["p"], ["y"], keepdims=0))
    compiled = torsh_fx.compile(model, threads=1)
    assert compiled(x=X, i=np.array([0, -1, 0, 0])) == 4
    with pytest.raises(torsh_fx.TorshError, match=r"it \(Pad\)"):
        compiled(x=X, i=np.array([0, -9, 0, 0]))


def ranges() -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, TensorProto.INT64, []) for n in "abc"]
    graph = helper.make_graph(
        [MAKE("Range", list("abc"), ["y"], name="it")], "g", values,
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_ranges_of_all_integers_are_refused_and_not_empty():
    compiled = torsh_fx.compile(ranges(), threads=1)
    for a, b, c in ((-(2**63), MOST, 1), (MOST, -(2**63), -1), (-(2**62) * 2, 1, 1)):
        with pytest.raises(torsh_fx.TorshError, match=r"too big|memory"):
            compiled(a=np.array(a), b=np.array(b), c=np.array(c))
    for a, b, c in ((5, 1, 1), (MOST, -(2**63), 1), (-(2**63), MOST, -1)):
        assert compiled(a=np.array(a), b=np.array(b), c=np.array(c)).size == 0
    for a, b, c in ((0, 7, 3), (7, 0, -3), (-(2**63), -(2**63) + 5, 2)):
        found = compiled(a=np.array(a), b=np.array(b), c=np.array(c))
        assert found.tolist() == list(range(int(a), int(b), int(c)))


def test_errors_of_passes_name_the_node():
    """What is found when an op expands is told with the place that the op came from."""
    nodes = [MAKE("GroupNormalization", ["x", "s", "s"], ["y"], name="it", num_groups=2)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", F, [1, 4, 3])],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(np.ones(3, np.float32), "s")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(torsh_fx.TorshError, match=r"node it\): .*expected \[4\] \(C2\)"):
        torsh_fx.compile(model)


def test_what_host_functions_refuse_is_told_with_the_node():
    model = two("SplitToSequence", [])
    model.graph.node[0].output[0] = "parts"
    model.graph.node[0].input[1] = "one"
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "one"))
    model.graph.node.append(MAKE("SequenceAt", ["parts", "i"], ["y"], name="at"))
    compiled = torsh_fx.compile(model)
    assert compiled(x=X, i=np.array(1)).shape == (1, 3)
    with pytest.raises(torsh_fx.TorshError, match=r"at \(SequenceAt\)"):
        compiled(x=X, i=np.array(7))


def sources(nodes: Any, functions: dict[str, onnx.FunctionProto]) -> Iterator[onnx.NodeProto]:
    """Nodes with those of subgraphs, and of a function's body for each call."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from sources(attribute.g.node, functions)
        if node.op_type in functions:
            yield from sources(functions[node.op_type].node, functions)


def structured() -> onnx.ModelProto:
    """A function called twice, an If with a dead node in a branch, a Loop, folded shapes."""
    then = helper.make_graph(
        [MAKE("Neg", ["x"], ["t"]), MAKE("Exp", ["x"], ["unused"])], "then", [],
        [helper.make_tensor_value_info("t", F, [2, 3])],
    )  # fmt: skip
    other = helper.make_graph(
        [MAKE("Abs", ["x"], ["o"])], "other", [], [helper.make_tensor_value_info("o", F, [2, 3])]
    )
    body = helper.make_graph(
        [MAKE("Identity", ["go"], ["go_on"]), MAKE("Add", ["s", "x"], ["s_next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", F, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s_next", F, [2, 3]),
        ],
    )
    model = onnx_model(
        [
            MAKE("Bent", ["x"], ["b0"], domain="ours"),
            MAKE("Bent", ["b0"], ["b1"], domain="ours"),
            MAKE("ReduceSum", ["b1"], ["total"], keepdims=0),
            MAKE("Greater", ["total", "zero"], ["big"]),
            MAKE("If", ["big"], ["c"], then_branch=then, else_branch=other),
            MAKE("Loop", ["trips", "yes", "c"], ["l"], body=body),
            MAKE("Shape", ["l"], ["shape"]),
            MAKE("Reshape", ["l", "shape"], ["y"]),
            MAKE("Exp", ["l"], ["nobody"]),
        ],
        zero=np.array(0, np.float32),
        trips=np.array(3),
        yes=np.array(True),
    )
    opset = [helper.make_opsetid("", 18)]
    inner = [MAKE("Relu", ["p"], ["q"]), MAKE("Tanh", ["q"], ["r"])]
    model.functions.append(helper.make_function("ours", "Bent", ["p"], ["r"], inner, opset))
    return model


def test_every_onnx_node_is_accounted_for():
    model = structured()
    report = import_onnx(model, Context()).report
    expected = list(sources(model.graph.node, {f.name: f for f in model.functions}))
    assert sum(report.counts().values()) == len(report.fates) == len(expected) == 18
    assert report.counts() == {Fate.MAPPED: 14, Fate.FOLDED: 2, Fate.DEAD: 2, Fate.REFUSED: 0}


def test_every_node_of_a_refused_onnx_model_is_accounted_for():
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(faulty(), Context())
    counts = re.search(r"(\d+) node\(s\) not supported; (\d+) more", str(caught.value))
    assert counts is not None
    refused, behind = map(int, counts.groups())
    assert refused + behind + 1 == len(faulty().graph.node)  # one is dead


# -- PyTorch


@pytest.fixture
def library():
    made = torch.library.Library("torsh_report", "FRAGMENT")
    made.define("twist(Tensor x, Tensor y, float by=1.0, *, bool from=False) -> Tensor")
    made.define("parts(Tensor x) -> (Tensor, Tensor)")
    made.impl("twist", lambda x, y, by=1.0, **_: x + y * by, "Meta")
    made.impl("parts", lambda x: (x + 0, x * 1), "Meta")
    made._register_fake("twist", lambda x, y, by=1.0, **_: torch.empty_like(x))
    made._register_fake("parts", lambda x: (torch.empty_like(x), torch.empty_like(x)))
    yield made
    made._destroy()


class Faulty(torch.nn.Module):
    """Two ops that nobody knows, one behind the other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.ops.torsh_report.twist(x, torch.relu(x), 0.5)
        a, _ = torch.ops.torsh_report.parts(h)
        return a.exp()


def exported(module: torch.nn.Module, *args: torch.Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(module.eval(), args, strict=False)


def test_torch_report_lists_everything_with_place_and_remedy(library: object):
    ep = exported(Faulty(), torch.ones(2, 3))
    with pytest.raises(UnsupportedError) as caught:
        torsh_fx.compile(ep)
    found = caught.value.findings
    assert [f.op for f in found] == ["torsh_report.twist.default", "torsh_report.parts.default"]
    line = Faulty.forward.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}" in found[0].location
    assert all(f.remedy and f.stub for f in found)
    assert "more depend on them" in str(caught.value)


def test_torch_stubs_can_be_pasted(library: object, monkeypatch: pytest.MonkeyPatch):
    ep, x = exported(Faulty(), torch.ones(2, 3)), torch.rand(2, 3)
    with pytest.raises(UnsupportedError) as caught:
        torsh_fx.compile(ep)
    before = dict(torch_base.CONVERTERS)
    try:
        exec(stubs(str(caught.value)), {})
        y = torsh_fx.compile(ep)(x)
    finally:
        for name in set(torch_base.CONVERTERS) - set(before):
            del torch_base.CONVERTERS[name]
    torch.testing.assert_close(y, x.exp())  # the stubs give their first operand


class Branching(torch.nn.Module):
    """Nodes of all fates: nested graphs, an unused result, sizes that fold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.exp()
        y = torch.cond(x.sum() > 0, lambda t: t.relu() + 1, lambda t: t.neg(), (x,))
        return y.reshape(y.shape[0] * y.shape[1]).split(2)[0]


@pytest.mark.parametrize(
    "module", [Branching(), torch.nn.Bilinear(3, 3, 4), torch.nn.Conv2d(2, 3, 3)]
)
def test_every_torch_node_is_accounted_for(module: torch.nn.Module):
    images = isinstance(module, torch.nn.Conv2d)
    args = [torch.ones(1, 2, 5, 5) if images else torch.ones(2, 3)]
    args *= 2 if isinstance(module, torch.nn.Bilinear) else 1
    ep = exported(module, *args)
    report = import_exported_program(ep, Context()).report
    graphs = [
        m for m in functional(ep).graph_module.modules() if isinstance(m, torch.fx.GraphModule)
    ]
    nodes = [node for graph in graphs for node in graph.graph.nodes]
    assert sum(report.counts().values()) == len(report.fates) == len(nodes)
    assert Counter(report.fates.values())[Fate.REFUSED] == 0


def test_what_onnxruntime_made_for_one_machine_says_how_to_save_the_model():
    """One finding for each node, without a converter to write: the blocked layout is internal."""
    domain = "com.microsoft.nchwc"
    model = onnx_model([MAKE("ReorderInput", ["x"], ["y"], domain=domain, channels_last=0)])
    model.opset_import.add(domain=domain, version=1)
    with pytest.raises(UnsupportedError, match="ORT_ENABLE_EXTENDED") as caught:
        torsh_fx.compile(model)
    assert "@converter" not in str(caught.value)
