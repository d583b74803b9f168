"""Functions of complex numbers in compiled programs, against numpy in extended precision."""

import numpy as np
import pytest
import torch
from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.runtime.executable import Executable, Program
from torsh_dialect.context import Context
from torsh_fx.pipeline import optimise

UNARY = {
    "exp": (torch.exp, np.exp),
    "exp2": (torch.exp2, np.exp2),
    "expm1": (torch.expm1, np.expm1),
    "log": (torch.log, np.log),
    "log2": (torch.log2, np.log2),
    "log10": (torch.log10, np.log10),
    "log1p": (torch.log1p, np.log1p),
    "sqrt": (torch.sqrt, np.sqrt),
    "sin": (torch.sin, np.sin),
    "cos": (torch.cos, np.cos),
    "tan": (torch.tan, np.tan),
    "sinh": (torch.sinh, np.sinh),
    "cosh": (torch.cosh, np.cosh),
    "tanh": (torch.tanh, np.tanh),
    "asin": (torch.asin, np.arcsin),
    "acos": (torch.acos, np.arccos),
    "atan": (torch.atan, np.arctan),
    "asinh": (torch.asinh, np.arcsinh),
    "acosh": (torch.acosh, np.arccosh),
    "atanh": (torch.atanh, np.arctanh),
    "rsqrt": (torch.rsqrt, lambda x: 1 / np.sqrt(x)),
    "reciprocal": (torch.reciprocal, np.reciprocal),
    "square": (torch.square, np.square),
}
BINARY = {
    "add": (torch.add, np.add),
    "mul": (torch.mul, np.multiply),
    "div": (torch.div, np.divide),
    "pow": (torch.pow, np.power),
}


def points() -> np.ndarray:
    """Magnitudes from 1e-3 to 30 in all directions, and numbers on both axes."""
    sizes, turns = np.logspace(-3, np.log10(30), 40), np.linspace(-3.1, 3.1, 41)
    plane = (sizes[:, None] * np.exp(1j * turns)).reshape(-1)
    axis = np.concatenate([-sizes, sizes])
    upper, lower = (np.full(axis.shape, zero) for zero in (0.0, -0.0))
    sides = [axis + 0j, np.empty_like(axis, complex), np.empty_like(axis, complex)]
    sides[1].real, sides[1].imag = axis, lower
    sides[2].real, sides[2].imag = upper, axis
    return np.concatenate([plane, *sides])


def compiled(count: int, part: str) -> Executable:
    """A program with every function of its input, and every pair of it with its reverse."""
    type = f"tensor<{count}xcomplex<{part}>>"
    lines = [f"%{n} = torsh.{n} %x : ({type}) -> {type}" for n in UNARY]
    lines += [f"%{n} = torsh.{n} %x, %y : ({type}, {type}) -> {type}" for n in BINARY]
    names = [*UNARY, *BINARY]
    results = ", ".join([type] * len(names))
    listed = ", ".join(f"%{n}" for n in names)
    body = "\n  ".join(lines)
    text = f"""
func.func @main(%x: {type}, %y: {type}) -> ({results}) {{
  {body}
  func.return {listed} : {results}
}}
"""
    ctx = Context(target=host_target())
    module = Parser(ctx, text).parse_module()
    optimise(module, ctx)
    main, _ = lower_module(module, ctx.target)
    objects = shared_generator(CodegenSettings()).compile(main.units)
    return Executable(Program(main.spec, objects, main.constants))


@pytest.mark.parametrize(("part", "dtype"), [("f32", np.complex64), ("f64", np.complex128)])
def test_functions_of_complex_numbers(part: str, dtype: type) -> None:
    """Errors relative to numpy's results in extended precision, next to torch's own."""
    x = points().astype(dtype)
    y = x[::-1].copy()
    results = compiled(len(x), part).run([x, y])
    unit = np.finfo(dtype).eps
    wide = [a.astype(np.clongdouble) for a in (x, y)]
    given = [torch.from_numpy(a) for a in (x, y)]
    rows = [(n, f, 1) for n, f in UNARY.items()] + [(n, f, 2) for n, f in BINARY.items()]
    for (name, (theirs, exact), count), actual in zip(rows, results, strict=True):
        expected = exact(*wide[:count])
        size = np.abs(expected)
        plain = (size < np.finfo(dtype).max / 4) & (size > np.finfo(dtype).tiny)
        assert plain.sum() > len(x) / 2
        scale = size * (1 + np.abs(y * np.log(wide[0]))) if name == "pow" else size
        ours, torchs = (
            _error(a[plain], expected[plain], scale[plain])
            for a in (actual, theirs(*given[:count]).numpy())
        )
        limit = max(2 * torchs, 16 * unit)
        assert ours <= limit, f"{name}: {ours / unit} ulp, torch {torchs / unit}"


def _error(actual, expected, scale) -> float:
    error = np.abs(actual.astype(np.clongdouble) - expected) / scale
    assert np.isfinite(error).all()
    return float(error.max())
