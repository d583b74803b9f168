"""The work of passes grows with the model, not with its square."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from torsh_dialect.context import Context
from torsh_dialect.kinds import TensorOp
from torsh_dialect.passes import roles
from torsh_fx.pipeline import optimise
from torsh_fx.sources import import_model


def layers(count):
    """`count` products with activations, one after the other; x: f32[n, 8]."""
    weight = np.eye(8, dtype=np.float32)
    nodes, name = [], "x"
    for k in range(count):
        nodes += [
            helper.make_node("MatMul", [name, f"w{k}"], [f"m{k}"]),
            helper.make_node("Tanh", [f"m{k}"], [f"t{k}"]),
            helper.make_node("Add", [f"t{k}", name], [f"a{k}"]),
        ]
        name = f"a{k}"
    stored = [numpy_helper.from_array(weight, f"w{k}") for k in range(count)]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["n", 8])],
        [info(name, TensorProto.FLOAT, None)], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def steps(count, monkeypatch):
    """How many values are looked at to tell what depends on weights alone."""
    looked = [0]
    inner = roles._is_from_weights

    def counted(value):
        looked[0] += 1
        return inner(value)

    ctx = Context()
    imported = import_model(layers(count), ctx)
    with monkeypatch.context() as patch:
        patch.setattr(roles, "_is_from_weights", counted)
        optimise(imported.module, ctx)
    return looked[0]


def test_telling_weights_from_activations_is_linear(monkeypatch):
    few, many = (steps(count, monkeypatch) for count in (20, 80))
    assert few > 20
    assert many <= 5 * few, (few, many)


def test_what_is_known_of_a_value_says_nothing_of_new_ones():
    module = import_model(layers(3), Context()).module
    values = [r for op in module.walk() if isinstance(op, TensorOp) for r in op.results]
    before = [roles.is_weight_only(value) for value in values]
    assert [roles.is_weight_only(value) for value in values] == before
    assert True in before
    assert False in before
    add = next(v.owner for v in values if v.owner.name == "torsh.add")
    weight = next(v for v, only in zip(values, before, strict=True) if only)
    assert not roles.is_weight_only(add.results[0])
    copy = type(add).make(weight, weight)
    add.parent.insert_op_before(copy, add)
    assert roles.is_weight_only(copy.results[0])
