"""Programs for GPU tests: torsh text, and what numpy says about it in float64."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Program:
    """One op or chain of `@main`.

    Attributes:
        inputs: Types of the arguments %a, %b, ..., such as `4x5xf32`.
        result: Type of the result %r.
        body: Ops that compute %r.
        expected: The same in numpy, on float64 copies of the inputs.
        summed: The axis of %a that the result is the sum of; rounding errors grow with the sum
            of magnitudes there.
    """

    inputs: tuple[str, ...]
    result: str
    body: str
    expected: object
    summed: int | None = None

    def text(self):
        arguments = ", ".join(
            f"%{n}: tensor<{t}>" for n, t in zip("abcd", self.inputs, strict=False)
        )
        return (
            f"func.func @main({arguments}) -> tensor<{self.result}> {{\n{self.body}\n"
            f"func.return %r : tensor<{self.result}>\n}}"
        )

    def arrays(self, seed=0):
        random = np.random.default_rng(seed)
        kinds = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i32": np.int32}
        found = []
        for type in self.inputs:
            *dims, kind = type.split("x")
            values = random.standard_normal([int(d) for d in dims]) * 3
            found.append(values.astype(kinds[kind]))
        return found


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, scale, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + bias


def row(op, dims, result, function, kind="f32"):
    type = f"{'x'.join(map(str, dims))}x{kind}"
    axes = f"axes = array<i64: {len(dims) - 1}>"
    body = f"%r = torsh.{op} %a {{{axes}}} : (tensor<{type}>) -> tensor<{result}>"
    return Program((type,), result, body, function, -1 if op in ("sum", "mean") else None)


CHAIN = """%0 = torsh.add %a, %b : (tensor<3x5x70xf32>, tensor<5x1xf32>) -> tensor<3x5x70xf32>
%1 = torsh.tanh %0 : (tensor<3x5x70xf32>) -> tensor<3x5x70xf32>
%r = torsh.mul %1, %a : (tensor<3x5x70xf32>, tensor<3x5x70xf32>) -> tensor<3x5x70xf32>"""

NORM = """%r = torsh.layer_norm %a, %b, %c {axis = -1 : i64, epsilon = 1.0e-05 : f64,
  operandSegmentSizes = array<i32: 1, 1, 1>} :
  (tensor<6x300xf32>, tensor<300xf32>, tensor<300xf32>) -> tensor<6x300xf32>"""

PROGRAMS = {
    "chain": Program(
        ("3x5x70xf32", "5x1xf32"), "3x5x70xf32", CHAIN, lambda a, b: np.tanh(a + b) * a
    ),
    "flat": Program(
        ("9001xf32",),
        "9001xf32",
        "%r = torsh.exp %a : (tensor<9001xf32>) -> tensor<9001xf32>",
        np.exp,
    ),
    "integers": Program(
        ("40xi32", "40xi32"),
        "40xi32",
        "%r = torsh.maximum %a, %b : (tensor<40xi32>, tensor<40xi32>) -> tensor<40xi32>",
        np.maximum,
    ),
    "halves": Program(
        ("2x33xf16",),
        "2x33xf16",
        "%r = torsh.abs %a : (tensor<2x33xf16>) -> tensor<2x33xf16>",
        np.abs,
    ),
    "columns": Program(
        ("600x50xf32",),
        "50xf32",
        "%r = torsh.sum %a {axes = array<i64: 0>} : (tensor<600x50xf32>) -> tensor<50xf32>",
        lambda a: a.sum(0),
        summed=0,
    ),
    "sum": row("sum", (4, 100), "4xf32", lambda a: a.sum(-1)),
    "sum_nested": row("sum", (2, 3, 40), "2x3xf32", lambda a: a.sum(-1)),
    "mean_f64": row("mean", (3, 777), "3xf64", lambda a: a.mean(-1), "f64"),
    "max": row("max", (5, 65), "5xf32", lambda a: a.max(-1)),
    "argmax": row("argmax", (3, 9000), "3xi64", lambda a: a.argmax(-1)),
    "three_warps": row("sum", (2, 10_000), "2xf32", lambda a: a.sum(-1)),
    "two_rounds": row("sum", (1, 50_000), "1xf32", lambda a: a.sum(-1)),
    "softmax": Program(
        ("4x500xf32",),
        "4x500xf32",
        "%r = torsh.softmax %a {axis = 1 : i64} : (tensor<4x500xf32>) -> tensor<4x500xf32>",
        softmax,
    ),
    "softmax_two_warps": Program(
        ("2x8000xf32",),
        "2x8000xf32",
        "%r = torsh.softmax %a {axis = 1 : i64} : (tensor<2x8000xf32>) -> tensor<2x8000xf32>",
        softmax,
    ),
    "layer_norm": Program(("6x300xf32", "300xf32", "300xf32"), "6x300xf32", NORM, layer_norm),
}
