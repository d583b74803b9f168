"""The example of the README: build an ONNX model, compile it, run it, look into it, save it."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import torsh_fx

rng = np.random.default_rng(0)
weight = rng.normal(size=(8, 4)).astype(np.float32)
nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])
y_info = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
stored = [numpy_helper.from_array(weight, "w")]
graph = helper.make_graph(nodes, "tiny", [x_info], [y_info], stored)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

f = torsh_fx.compile(model, dynamic_shapes={"batch": (1, 64)})
x = rng.normal(size=(3, 8)).astype(np.float32)
y = f(x)
assert np.allclose(y, np.maximum(x @ weight, 0), atol=1e-6)
print(f.profile(x).table())  # kernels, and the nodes they come from
f.save("tiny.mlir")  # and tiny.safetensors
assert np.array_equal(torsh_fx.load("tiny.mlir")(x=x), y)
