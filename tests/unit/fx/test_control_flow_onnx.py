"""Control flow and data-dependent extents of ONNX, against ONNX Runtime.

The ONNX reference evaluator confuses names of nested bodies, so it is no oracle here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

import torsh_fx
from torsh_dialect.errors import UnsupportedError
from torsh_fx.hosted import HostedModule
from torsh_fx.memory import memory_plan

HEADER = '<ir_version: 8, opset_import: ["" : 18]>\n'
RNG = np.random.default_rng(0)

Feeds = Sequence[Mapping[str, np.ndarray]]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def int64(value: object) -> np.ndarray:
    return np.asarray(value, np.int64)


def model_of(text: str) -> onnx.ModelProto:
    model = parser.parse_model(HEADER + text)
    onnx.checker.check_model(model)
    return model


TEXTS = {
    "if_loop_nested": """agraph (float[n,4] x, int64 k, bool b) => (float[n,4] y) {
 z = Constant<value_float=0.5>()
 y = If(b) <then_branch = t () => (float[n,4] ty) {
     ty = Loop(k,,x) <body = lb (int64 i, bool c, float[n,4] v) => (bool c2, float[n,4] v2) {
        s = ReduceSum<keepdims=0>(v)  zero = Constant<value_float=0.0>() pos = Greater(s, zero)
        v2 = If(pos) <then_branch = a () => (float[n,4] p) { p = Mul(v, z)
   }, else_branch = bb () => (float[n,4] q) { q = Sub(z, v) }>
        c2 = Identity(c) }> }, else_branch = e () => (float[n,4] ey) { ey = Neg(x) }>
}""",
    "loop_growing": """agraph (int64 k, float[m] x) => (float[p] y, float[t, u] z) {
 y, z = Loop(k,,x) <body = lb (int64 i, bool c, float[q] v)
   => (bool c2, float[r] v2, float[4] s) {
   zero = Constant<value_ints=[0]>() s1 = ReduceSum<keepdims=1>(v, zero)
   v2 = Concat<axis=0>(v, s1)
   four = Constant<value_ints=[4]>() s = Expand(s1, four) c2 = Identity(c) }>
}""",
    "if_of_two_ranks": """agraph (float[n] x, float[1] d) => (float[n] y, float[n] z) {
 one = Constant<value_float=1.0>() is_one = Equal(d, one)
 step = If(is_one) <then_branch = t () => (float s) { s = Constant<value_float=3.0>() },
   else_branch = e () => (float[1] s2) { less = Sub(d, one) s2 = Div(one, less) }>
 scaled = Neg(step) y = Mul(x, scaled) sum = Add(step, scaled) z = Add(sum, x)
}""",
    "scan_of_unique": """agraph (float[3] h, float[t,3] x) => (float[3] s, float[t,u] o) {
 s, o = Scan<num_scan_inputs=1, body = b (float[3] c, float[3] a) => (float[3] d, float[v] e) {
   d = Add(c, a) e = Unique(d) }>(h, x)
}""",
    "scan_two": """agraph (float[2] s0, float[t,2] x, float[2,t] y)
   => (float[2] s, float[t,2] o) {
 s, o = Scan<num_scan_inputs=2, scan_input_axes=[0,1], scan_input_directions=[0,1],
   scan_output_directions=[1], body = b (float[2] c, float[2] a, float[2] d)
   => (float[2] c2, float[2] oo) {
   m = Mul(a,d) c2 = Add(c,m) oo = Sub(c2,a) }>(s0,x,y)
}""",
    "sequence_map": """agraph (float[a] x, float[b] y, float[c] z) => (seq(float[q]) s) {
 s0 = SequenceConstruct(x,y,z)
 s = SequenceMap(s0) <body = b (float[q] e) => (float[q] f) { f = Exp(e) }>
}""",
    "sequence_map_taken": """agraph (float[a] x, float[b] y, float[2] z)
   => (float[k] first, float[m] all, float[2,2] rows) {
 s0 = SequenceConstruct(x,y)
 s = SequenceMap(s0,z) <body = b (float[q] e, float[2] g) => (float[r] f) {
   f = Concat<axis=0>(e,g) }>
 i = Constant<value_int=1>() first = SequenceAt(s,i) all = ConcatFromSequence<axis=0>(s)
 t0 = SequenceConstruct(z,z)
 t = SequenceMap(t0) <body = d (float[2] e) => (float[2] f) { f = Exp(e) }>
 rows = ConcatFromSequence<axis=0,new_axis=1>(t)
}""",
    "sequence_in_loop": """agraph (int64 k, float[2] x) => (float[2] y, seq(float[q]) kept) {
 s0 = SequenceEmpty()
 y, kept = Loop(k,,x,s0) <body = lb (int64 i, bool c, float[2] v, seq(float[q]) s)
   => (bool c2, float[2] v2, seq(float[q]) s2) {
   c2 = Identity(c) t0 = SequenceConstruct(v,v)
   t = SequenceMap(t0) <body = d (float[2] e) => (float[2] f) { f = Neg(e) }>
   j = Constant<value_int=0>() u = SequenceAt(t,j) one = Constant<value_float=1.0>()
   v2 = Add(u,one) s2 = SequenceInsert(s,v2) }>
}""",
    "nonzero_reshape": """agraph (float[n,m] x) => (int64[2,k] i, float[k2] v, float[1] s) {
 i = NonZero(x) it = Transpose<perm=[1,0]>(i) v = GatherND(x,it)
   ax = Constant<value_ints=[0]>() s = ReduceSum<keepdims=1>(v,ax)
}""",
    "unique_range": """agraph (int64[n] x) => (int64[k] u, int64[r] g) {
 u = Unique<sorted=1>(x) sz = Shape(u) ax = Constant<value_ints=[0]>() sc = Squeeze(sz,ax)
   z = Constant<value_int=0>() o = Constant<value_int=2>() g = Range(z,sc,o)
}""",
    "nms": """agraph (float[1,n,4] boxes, float[1,c,n] scores)
   => (int64[k,3] sel, float[k2,4] picked) {
 mo = Constant<value_ints=[3]>() iou = Constant<value_floats=[0.5]>()
   st = Constant<value_floats=[0.1]>()
 sel = NonMaxSuppression(boxes,scores,mo,iou,st)
 two = Constant<value_ints=[2]>() three = Constant<value_ints=[3]>()
   one = Constant<value_ints=[1]>()
 idx = Slice(sel,two,three,one) zero = Constant<value_ints=[0]>() b = Squeeze(boxes,zero)
   id2 = Squeeze(idx,one) picked = Gather<axis=0>(b,id2)
}""",
    "while_data": """agraph (float[2,2] x) => (float[2,2] y, int64[t] c) {
 cond0 = Constant<value_int=1>() cc = Cast<to=9>(cond0)
 y, c = Loop(,cc,x) <body = lb (int64 i, bool c, float[2,2] v)
   => (bool c2, float[2,2] v2, int64 i2) {
   h = Constant<value_float=0.5>() v2 = Mul(v,h) a = Abs(v2) s = ReduceSum<keepdims=0>(a)
   lim = Constant<value_float=0.1>() c2 = Greater(s,lim) i2 = Identity(i) }>
}""",
    "compress_topk_dyn": """agraph (float[n] x, bool[n] m, int64[1] k)
   => (float[a] c, float[b] t, int64[d] ti) {
 c = Compress<axis=0>(x,m) t, ti = TopK(c,k)
}""",
    "swap_loop": """agraph (int64 k, float[3] a, float[3] b) => (float[3] c, float[3] d) {
 c, d = Loop(k,,a,b) <body = lb (int64 i, bool c, float[3] u, float[3] v)
   => (bool c2, float[3] v2, float[3] u2) { c2 = Identity(c) u2 = Neg(u) v2 = Identity(v)}>
}""",
    "scatter_swap": """agraph (int64 k, float[3] a, float[3] b) => (float[3] c, float[3] d) {
 a1 = Neg(a) b1 = Exp(b)
 c, d = Loop(k,,a1,b1) <body = lb (int64 i, bool c, float[3] u, float[3] v)
   => (bool c2, float[3] v2, float[3] u2) { c2 = Identity(c)
  ix = Constant<value_ints=[1]>() one = Constant<value_floats=[9.0]>()
   u2 = ScatterElements<axis=0>(u,ix,one) ix2 = Constant<value_ints=[2]>()
   v2 = ScatterElements<axis=0>(v,ix2,one) }>
}""",
}

FEEDS: dict[str, Feeds] = {
    "if_loop_nested": [
        {"x": normal(3, 4), "k": int64(k), "b": np.array(b)}
        for k in (0, 1, 5)
        for b in (True, False)
    ],
    "loop_growing": [{"k": int64(k), "x": normal(3)} for k in (-2, 0, 1, 6)],
    "if_of_two_ranks": [
        {"x": normal(n), "d": np.full(1, d, np.float32)} for n in (1, 3) for d in (1, 4)
    ],
    "scan_of_unique": [{"h": normal(3), "x": normal(t, 3)} for t in (1, 4)],
    "scan_two": [{"s0": normal(2), "x": normal(t, 2), "y": normal(2, t)} for t in (1, 5)],
    "sequence_map": [{"x": normal(2), "y": normal(3), "z": normal(1)}],
    "sequence_map_taken": [{"x": normal(n), "y": normal(3), "z": normal(2)} for n in (1, 4)],
    "sequence_in_loop": [{"k": int64(k), "x": normal(2)} for k in (0, 3)],
    "nonzero_reshape": [
        {"x": normal(3, 4)},
        {"x": np.zeros((2, 2), np.float32)},
        {"x": normal(0, 4)},
    ],
    "unique_range": [{"x": np.array(v)} for v in ([3, 1, 1, 2], [5], [1, 2, 3, 4, 5, 6])],
    "nms": [
        {
            "boxes": np.sort(RNG.random((1, n, 4)).astype(np.float32)),
            "scores": RNG.random((1, 2, n)).astype(np.float32),
        }
        for n in (1, 6, 20)
    ],
    "while_data": [
        {"x": normal(2, 2)},
        {"x": normal(2, 2) * 100},
        {"x": np.zeros((2, 2), np.float32)},
    ],
    "compress_topk_dyn": [
        {"x": normal(6), "m": np.array([1, 0, 1, 1, 0, 1], bool), "k": np.array([2])}
    ],
    "swap_loop": [{"k": int64(k), "a": normal(3), "b": normal(3)} for k in (0, 1, 2, 3)],
    "scatter_swap": [{"k": int64(k), "a": normal(3), "b": normal(3)} for k in (0, 1, 2, 3)],
}

HOSTED = {"sequence_map", "sequence_map_taken", "sequence_in_loop"}
"""Sequences are values of the host; everything else is native."""


@pytest.mark.parametrize("name", TEXTS)
def test_equals_onnxruntime(name: str):
    model = model_of(TEXTS[name])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    peer = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    compiled = torsh_fx.compile(model)
    assert isinstance(compiled, HostedModule) == (name in HOSTED)
    for feed in FEEDS[name]:
        for ours, theirs in zip(compiled.run(feed), peer.run(None, feed), strict=True):
            pairs = zip(ours, theirs, strict=True) if isinstance(theirs, list) else [(ours, theirs)]
            for a, b in pairs:
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


TELLS_RANK = {
    "output": "y = Neg(step)",
    "shape": "s = Shape(step) y = Cast<to=1>(s)",
    "both": "two = Add(step, step) y = Mul(two, step)",
    "concat": "y = Concat<axis=0>(step, x)",
}


@pytest.mark.parametrize("body", TELLS_RANK.values(), ids=TELLS_RANK)
def test_an_if_of_two_ranks_is_refused_where_the_rank_shows(body: str):
    text = f"""agraph (float[n] x, float[1] d) => (float[m] y) {{
 one = Constant<value_float=1.0>() is_one = Equal(d, one)
 step = If(is_one) <then_branch = t () => (float s) {{ s = Constant<value_float=3.0>() }},
   else_branch = e () => (float[1] s2) {{ s2 = Div(one, d) }}>
 {body} }}"""
    with pytest.raises(UnsupportedError, match="branches give different ranks"):
        torsh_fx.compile(parser.parse_model(HEADER + text))


CACHE = """agraph (int64 k, float[65536] a) => (float[65536] c) {
  c = Loop(k,,a) <body = lb (int64 i, bool go, float[65536] u) => (bool on, float[65536] v) {
    on = Identity(go) zero = Constant<value_ints=[0]>() place = Unsqueeze(i, zero)
    old = Gather<axis=0>(u, place) one = Constant<value_float=1.0>() more = Add(old, one)
    v = ScatterElements<axis=0>(u, place, more) }>
}"""


def test_a_loop_updates_what_it_carries_in_one_buffer():
    compiled = torsh_fx.compile(model_of(CACHE), threads=1)
    a = normal(65536)
    expected = a.copy()
    expected[:300] += 1
    feed = {"k": int64(300), "a": a}
    np.testing.assert_array_equal(compiled.run(feed)[0], expected)
    assert memory_plan(compiled, [(), (65536,)]).arena < a.nbytes // 8  # the output is the buffer
