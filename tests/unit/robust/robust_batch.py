"""Compiles and runs mutated models, one after another; prints one JSON line for each.

Started as a process by `test_robust_mutations.py`: `robust_batch.py FIRST COUNT`. The last line
"start N" without a result tells which model ended the process.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from robust_models import attention, convnet, mlp, movement

from torsh_dialect.errors import TorshError
from torsh_fx.compiler import compile as compile_model

PARENTS = (mlp, convnet, attention, movement)
LIMIT_S = 60
FREE = 3
"""What symbolic extents are when a model runs."""

OPERATORS = (
    "Relu", "Exp", "Add", "Mul", "Div", "Conv", "MatMul", "Gemm", "Softmax", "Transpose",
    "Reshape", "Concat", "ReduceSum", "AveragePool", "MaxPool", "Flatten", "Where", "Pow",
    "LayerNormalization", "ConvTranspose", "Squeeze", "Identity", "CumSum", "TopK", "Neg",
)  # fmt: skip


def change_integer(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another number in an attribute."""
    found = [a for node in model.graph.node for a in node.attribute]
    if not found:
        return
    attribute = dice.choice(found)
    values = [-(1 << 63), -7, -2, -1, 0, 1, 2, 3, 5, 8, 1 << 20, (1 << 63) - 1]
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i = dice.choice(values)
    elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
        attribute.ints[dice.randrange(len(attribute.ints))] = dice.choice(values)
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = dice.choice([b"edge", b"reflect", b"wrap", b"bogus", b""])


def drop_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """One attribute fewer."""
    node = dice.choice(model.graph.node)
    if node.attribute:
        node.attribute.pop(dice.randrange(len(node.attribute)))


def change_extent(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another extent of an input."""
    dim = dice.choice(dice.choice(model.graph.input).type.tensor_type.shape.dim)
    if dice.random() < 0.4:
        dim.dim_param = dice.choice(["n", "m"])
    else:
        dim.dim_value = dice.choice([0, 1, 2, 3, 7, 17, 1 << 34])


def change_weight(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another shape, type or content of an initializer."""
    stored = dice.choice(model.graph.initializer)
    array = numpy_helper.to_array(stored)
    way = dice.randrange(4)
    if way == 0:
        array = np.swapaxes(array, 0, -1) if array.ndim else array.reshape(1)
    elif way == 1:
        kinds = [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_]
        array = array.astype(dice.choice(kinds))
    elif way == 2 and array.size:
        array = array.copy()
        extreme = [0, -1, 1, 3, 1 << 20] if array.dtype.kind in "iu" else [0.0, 1e30, -1e30, 2.5]
        array.reshape(-1)[dice.randrange(array.size)] = dice.choice(extreme)
    else:
        array = array[:-1] if array.ndim and len(array) else array.reshape(())
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), stored.name))


def change_type(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another element type of an input."""
    kinds = [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32,
             TensorProto.BOOL, TensorProto.UINT8, TensorProto.STRING]  # fmt: skip
    dice.choice(model.graph.input).type.tensor_type.elem_type = dice.choice(kinds)


def change_edge(model: onnx.ModelProto, dice: random.Random) -> None:
    """An operand that is another value."""
    node = dice.choice(model.graph.node)
    values = [v.name for v in (*model.graph.input, *model.graph.initializer)]
    values += [name for other in model.graph.node for name in other.output]
    if node.input:
        node.input[dice.randrange(len(node.input))] = dice.choice(values)


def change_operator(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another operator with the same operands."""
    dice.choice(model.graph.node).op_type = dice.choice(OPERATORS)


def change_operands(model: onnx.ModelProto, dice: random.Random) -> None:
    """One operand more or fewer, or two exchanged."""
    node = dice.choice(model.graph.node)
    way = dice.randrange(3)
    if way == 0:
        node.input.append(dice.choice(node.input))
    elif way == 1:
        node.input.pop()
    else:
        node.input[:] = list(reversed(node.input))


CHANGES = (
    change_integer, change_integer, drop_attribute, change_extent, change_weight, change_weight,
    change_type, change_edge, change_operator, change_operator, change_operands,
)  # fmt: skip


def mutated(number: int) -> onnx.ModelProto:
    """Model `number`: one of the parents with one to three changes."""
    dice = random.Random(number)
    model = PARENTS[number % len(PARENTS)]()
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        dice.choice(CHANGES)(model, dice)
    return model


def inputs_of(model: onnx.ModelProto, number: int) -> dict[str, np.ndarray]:
    """Random inputs by the model's declared types; symbolic extents are `FREE`."""
    rng = np.random.default_rng(number)
    found: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        type = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else FREE for d in type.shape.dim]
        if np.prod(shape, dtype=object) > 1 << 24:
            shape = [min(extent, 2) for extent in shape]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(type.elem_type)
        values = rng.normal(size=shape) * 2
        found[value.name] = (np.abs(values) if dtype.kind == "u" else values).astype(dtype)
    return found


def theirs(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """What onnxruntime gives without its optimisations; None where it refuses."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(value) for value in session.run(None, inputs)]
    except Exception as error:  # its errors have no common root
        print(f"# onnxruntime: {str(error)[:200]}", file=sys.stderr)
        return None


def distance(ours: np.ndarray, other: np.ndarray) -> float:
    """Greatest difference, relative to the scale of `other`; infinite where they are not alike."""
    if ours.shape != other.shape or ours.dtype != other.dtype:
        return float("inf")
    if other.dtype.kind not in "fc":
        return 0.0 if (ours == other).all() else float("inf")
    a, b = ours.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not ((a == b) | (np.isnan(a) & np.isnan(b)) | finite).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(b[finite]).max()), 1e-30)
    return float(np.abs(a - b)[finite].max()) / scale


def outcome(number: int) -> dict[str, Any]:
    """What happens to model `number`."""
    model = mutated(number)
    inputs = inputs_of(model, number)
    try:
        compiled = compile_model(model, cache=False, threads=1)
        ours = compiled.run({name: inputs[name] for name in compiled.input_names})
    except TorshError as error:
        return {"kind": "refused", "error": type(error).__name__, "text": str(error)}
    other = theirs(model, inputs)
    if other is None:
        return {"kind": "alone"}
    tells = [f"{a.dtype}{a.shape}/{b.dtype}{b.shape}" for a, b in zip(ours, other, strict=True)]
    far = max((distance(a, b) for a, b in zip(ours, other, strict=True)), default=0.0)
    return {"kind": "compared", "distance": far, "outputs": tells}


def main() -> None:
    """Run the models of the arguments."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    for number in range(first, first + count):
        print(f"start {number}", flush=True)
        signal.alarm(LIMIT_S)
        start = time.monotonic()
        found = outcome(number)
        signal.alarm(0)
        print(json.dumps({"number": number, "s": time.monotonic() - start, **found}), flush=True)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
