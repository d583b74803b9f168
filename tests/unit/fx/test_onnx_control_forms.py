"""Forms of control flow, sequences and stored tensors that exporters and hand-written models use.

Oracles: onnxruntime, and for `Scan` of opset 8 its text in the operator set as a loop in numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import GraphProto, ModelProto, SparseTensorProto, helper, numpy_helper, parser

import torsh_fx
from torsh_dialect.errors import ExecutionError, ImportModelError

RNG = np.random.default_rng(8)
Feed = Mapping[str, Any]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(text: str, opset: int = 18) -> ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')


def peer_of(model: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def require_equal(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(b, list):
            require_equal(a, b)
            continue
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# -- Scan of opset 8


def scan8(
    batch: int | str, steps: int | str, directions: list[int], *, lengths: bool
) -> ModelProto:
    """State h; inputs x, w: h' = h * x + w, and the output y = x - h."""
    value = helper.make_tensor_value_info
    entry = [value(name, 1, [3]) for name in "hxw"]
    nodes = [
        helper.make_node("Mul", ["h", "x"], ["p"]),
        helper.make_node("Add", ["p", "w"], ["h2"]),
        helper.make_node("Sub", ["x", "h"], ["y"]),
    ]
    body = helper.make_graph(nodes, "body", entry, [value("h2", 1, [3]), value("y", 1, [3])])
    names = ["n" if lengths else "", "h", "x", "w"]
    scan = helper.make_node(
        "Scan", names, ["last", "all"], num_scan_inputs=2, body=body, directions=directions
    )
    inputs = [value("n", 7, [batch])] if lengths else []
    inputs += [value("h", 1, [batch, 3]), value("x", 1, [batch, steps, 3])]
    inputs += [value("w", 1, [batch, steps, 3])]
    outputs = [helper.make_empty_tensor_value_info(name) for name in ("last", "all")]
    graph = helper.make_graph([scan], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=4)


def scanned8(feed: Feed, directions: list[int]) -> list[np.ndarray]:
    states, x, w = feed["h"], feed["x"], feed["w"]
    batch, steps = x.shape[:2]
    last, every = states.copy(), np.zeros_like(x)
    for entry in range(batch):
        own = int(feed["n"][entry]) if "n" in feed else steps
        for step in range(own):
            a, b = (v[entry, own - 1 - step if back else step]
                    for v, back in zip((x, w), directions, strict=True))  # fmt: skip
            every[entry, step] = a - last[entry]
            last[entry] = last[entry] * a + b
    return [last, every]


@pytest.mark.parametrize("directions", [[0, 0], [1, 0], [1, 1]])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("symbols", [False, True])
def test_scan_of_opset_8(directions: list[int], lengths: bool, symbols: bool):
    model = scan8(*(("b", "t") if symbols else (3, 4)), directions, lengths=lengths)
    compiled = torsh_fx.compile(model)
    for batch, steps in ((3, 4), *([(1, 1), (2, 6)] if symbols else [])):
        feed = {"h": normal(batch, 3), "x": normal(batch, steps, 3), "w": normal(batch, steps, 3)}
        if lengths:
            feed["n"] = RNG.integers(1, steps, batch, endpoint=True)
        require_equal(compiled.run(feed), scanned8(feed, directions))
        require_equal(compiled.run(feed), peer_of(model).run(None, feed))


# -- SequenceMap sees the names around it

MAP = """g (seq(float[n]) s, float[1] out, float[1] seqlen) => (seq(float[n]) y) {
  twice = Add(out, out)
  y = SequenceMap(s) <body = b (float[n] x) => (float[n] r) {
    t = Mul(x, twice) r = Sub(t, seqlen) }>
}"""


def test_the_body_of_a_sequence_map_reads_values_around_it():
    model = model_of(MAP)
    feed = {"s": [normal(2), normal(5)], "out": normal(1), "seqlen": normal(1)}
    wanted = [x * (feed["out"] * 2) - feed["seqlen"] for x in feed["s"]]
    ours = torsh_fx.compile(model).run(feed)
    require_equal(ours, [wanted])
    assert torsh_fx.compile(model).run({**feed, "s": []}) == [[]]


# -- sparse tensors


def sparse(name: str, values: Any, indices: Any, dims: list[int]) -> SparseTensorProto:
    stored = numpy_helper.from_array(np.asarray(values), name)
    places = numpy_helper.from_array(np.asarray(indices, np.int64), f"{name}_indices")
    return helper.make_sparse_tensor(stored, places, dims)


COORDINATES = [[0, 1], [1, 2]]
VALUES = np.array([1.5, -2.5], np.float32)
DENSE = np.array([[0, 1.5, 0], [0, 0, -2.5]], np.float32)


def in_graph(model: ModelProto, tensor: SparseTensorProto) -> None:
    model.graph.sparse_initializer.append(tensor)


def in_body(model: ModelProto, tensor: SparseTensorProto) -> None:
    body_of(model).sparse_initializer.append(tensor)


def in_constant(model: ModelProto, tensor: SparseTensorProto) -> None:
    node = helper.make_node("Constant", [], ["k"], sparse_value=tensor)
    body_of(model).node.insert(0, node)


def body_of(model: ModelProto) -> GraphProto:
    return model.graph.node[0].attribute[0].g


LOOP = """g (int64 m, float[2,3] x) => (float[2,3] y) {
  y = Loop(m,,x) <body = b (int64 i, bool c, float[2,3] v) => (bool c2, float[2,3] v2) {
    c2 = Identity(c) v2 = Add(v, k) }>
}"""


@pytest.mark.parametrize("place", [in_graph, in_body, in_constant])
@pytest.mark.parametrize("indices", [COORDINATES, [1, 5]], ids=["coordinates", "flat"])
def test_sparse_tensors(place: Callable[[ModelProto, SparseTensorProto], None], indices: Any):
    model = model_of(LOOP)
    place(model, sparse("k", VALUES, indices, [2, 3]))
    feed = {"m": np.asarray(3), "x": normal(2, 3)}
    ours = torsh_fx.compile(model).run(feed)
    require_equal(ours, [feed["x"] + DENSE + DENSE + DENSE])
    require_equal(ours, peer_of(model).run(None, feed))


@pytest.mark.parametrize(
    ("indices", "dims", "words"),
    [
        ([[0, 1], [1, 3]], [2, 3], "indices outside"),
        ([[0, 1], [-1, 0]], [2, 3], "indices outside"),
        ([1, 6], [2, 3], "indices outside"),
        ([0], [2, 3], "is damaged"),
        ([[0, 1, 2], [0, 1, 2]], [2, 3], "is damaged"),
        ([0, 1], [2**40, 2**40], "at most 268,435,456"),
    ],
)
def test_a_damaged_sparse_tensor_is_refused(indices: Any, dims: list[int], words: str):
    model = model_of("g (float[2,3] x) => (float[2,3] y) { y = Add(x, k) }")
    in_graph(model, sparse("k", VALUES, indices, dims))
    with pytest.raises(ImportModelError, match=words):
        torsh_fx.compile(model)


# -- slices between bounds that are themselves sliced

ROWS = """g (float[n,3] x, int64[b] o, int64[1] i) => (float[m,3] y) {
  one = Constant<value_ints=[1]>() next = Add(i, one) after = Add(next, one)
  start = Slice(o, i, next) end = Slice(o, next, after)
  y = Slice(x, start, end)
}"""


def test_a_slice_whose_number_of_bounds_is_data_has_one():
    """As the exporters write embedding bags: bounds are cut out of a list of offsets."""
    model = model_of(ROWS)
    compiled = torsh_fx.compile(model)
    feed: dict[str, Any] = {"x": normal(6, 3), "o": np.array([0, 2, 2, 6])}
    for bag in range(3):
        feed["i"] = np.array([bag])
        require_equal(compiled.run(feed), peer_of(model).run(None, feed))
    with pytest.raises(ExecutionError):  # the list has no such bag, hence no bounds
        compiled.run({**feed, "i": np.array([7])})


def test_bounds_that_leave_int64_when_counted_from_the_end():
    """Slices to the greatest int64 whose start is data, in a loop that makes a sequence."""
    model = model_of("""g (int64 m, float[4,2] x) => (float[p,2] y) {
      none = SequenceEmpty<dtype=1>()
      all = Loop(m,,none) <body = b (int64 i, bool c, seq(float[q,2]) s)
        => (bool c2, seq(float[r,2]) s2) {
        zero = Constant<value_ints=[0]>() start = Unsqueeze(i, zero)
        end = Constant<value_ints=[9223372036854775807]>()
        part = Slice(x, start, end, zero) s2 = SequenceInsert(s, part) c2 = Identity(c) }>
      y = ConcatFromSequence<axis=0>(all)
    }""")
    feed = {"m": np.asarray(4), "x": normal(4, 2)}
    require_equal(torsh_fx.compile(model).run(feed), peer_of(model).run(None, feed))


def test_a_loop_without_condition_and_carried_values():
    """Both optional inputs are written, the second as an empty name."""
    model = model_of("""g (int64 m) => (int64[n] y) {
      y = Loop(m, m) <body = b (int64 i, bool c) => (bool c2, int64 s) {
        c2 = Identity(c) s = Mul(i, i) }>
    }""")
    model.graph.node[0].input[1] = ""
    for trips in (4, 1):
        feed = {"m": np.asarray(trips)}
        require_equal(torsh_fx.compile(model).run(feed), peer_of(model).run(None, feed))


def test_native_parts_take_extents_that_are_functions_of_data():
    """Between sequences: a part reads a tensor of min(3 n, 6) elements, where n is an input."""
    model = model_of("""g (float[3] b, int64 n) => (float[q] y, int64 k) {
      z = Constant<value_ints=[0]>() six = Constant<value_ints=[6]>()
      u = Unsqueeze(n, z) t = Tile(b, u) v = Slice(t, z, six)
      s = SequenceConstruct(v, b) k = SequenceLength(s) w = SequenceAt(s, n)
      w2 = Add(w, w) g = Neg(v) y = Concat<axis=0>(w2, g)
    }""")
    compiled = torsh_fx.compile(model)
    for n in (0, 1):
        feed = {"b": normal(3), "n": np.asarray(n)}
        require_equal(compiled.run(feed), peer_of(model).run(None, feed))


def test_pieces_of_an_empty_axis():
    model = model_of("""g (float[n,2] x) => (seq(float[p,2]) y, int64 k) {
      size = Constant<value_int=2>() y = SplitToSequence<axis=0>(x, size) k = SequenceLength(y)
    }""")
    compiled = torsh_fx.compile(model)
    for rows in (0, 1, 2, 5):
        feed = {"x": normal(rows, 2)}
        require_equal(compiled.run(feed), peer_of(model).run(None, feed))


@pytest.mark.parametrize("sizes", [[1, 2], [2, 3], [-1, 5], 0, -2])
def test_pieces_that_do_not_make_up_the_axis_are_refused(sizes: Any):
    dims = "" if np.ndim(sizes) == 0 else "[m]"
    model = model_of(f"""g (float[4] x, int64{dims} s) => (seq(float[n]) y) {{
      y = SplitToSequence<axis=0>(x, s)
    }}""")
    with pytest.raises(ExecutionError, match="pieces of"):
        torsh_fx.compile(model).run({"x": normal(4), "s": np.asarray(sizes)})
