"""One compiled program of each op with symbolic extents, at extents 0, 1, prime and large.

Oracle: the op's numpy reference at the same extents. Where that refuses them, so must the program.
`TORSH_SWEEP=all` takes two samples of each op, otherwise one.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import samples_basic
import samples_nn
from op_sweep import close, leaves, module_of
from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.program.relations import Relation, relations
from lowering.runtime.executable import Executable, Program
from torsh_dialect.context import Context
from torsh_dialect.dims import evaluate_dim, symbols_of
from torsh_dialect.errors import InputError, TorshError
from torsh_dialect.evaluate import evaluate
from torsh_dialect.kinds import Random
from torsh_dialect.types import dims_of
from torsh_fx.pipeline import optimise

ALL = os.environ.get("TORSH_SWEEP") == "all"
SAMPLES = 2 if ALL else 1
SIZES = (0, 1, 2, 7, 13, 97)
MOST_ELEMENTS = 200_000
"""Of an operand: the references are slow."""

EXCLUDED = {
    "svd": "singular vectors are unique up to phases; see test_spectral.py",
    "eigh": "likewise",
    "eig": "no lowering yet",
    "qr": "columns are unique up to signs where the rank is deficient",
    "searchsorted": "its first operand is sorted, which resizing spoils",
    "strided_attention": "its extents are properties; attention makes it, and is here",
    "split": "its sizes are properties",
    "depth_to_space": "its channels are a multiple, which its reference does not ask for",
    "space_to_depth": "likewise of height and width",
    "embedding_bag": "its offsets ascend, which resizing spoils",
    "ldl_solve": "its matrix is factored and regular, which resizing spoils",
    "qr_reflections": "likewise",
    "reshape": "its sizes are properties; a symbolic one is in test_compiled_dynamic.py",
    "scatter_nd": "its index tuples are places of one extent",
    "lstm": "sizes of gates are properties; batch and time: test_torch_symbolic_axes.py",
    "gru": "likewise",
    "rnn": "likewise",
}


def sweep() -> Iterator[Any]:
    """Samples with a symbol, by op."""
    by_op: dict[str, list[Any]] = defaultdict(list)
    for sample in [*samples_basic.SAMPLES, *samples_nn.SAMPLES]:
        name = sample.op.name.removeprefix("torsh.")
        dynamic = any(d > 1 for array in leaves(sample) for d in array.shape)
        if dynamic and name not in EXCLUDED and not issubclass(sample.op, Random):
            by_op[name].append(sample)
    for name in sorted(by_op):
        for number, sample in enumerate(by_op[name][:SAMPLES]):
            yield pytest.param(sample, id=f"{name}-{number}")


def compiled(module: Any) -> Executable:
    ctx = Context(target=host_target())
    optimised = module.clone()
    optimise(optimised, ctx)
    main, prepare = lower_module(optimised, ctx.target)
    generator = shared_generator(CodegenSettings())
    weights = dict(main.constants)
    if prepare is not None:
        objects = generator.compile(prepare.units)
        entry = Executable(Program(prepare.spec, objects, prepare.constants), "prepare")
        weights.update(zip([o.name for o in entry.spec.outputs], entry.run([]), strict=True))
    used = {w.name: weights[w.name] for w in main.spec.weights}
    return Executable(Program(main.spec, generator.compile(main.units), used))


def choices(names: list[str]) -> Iterator[dict[str, int]]:
    """Values of the symbols: the sample's, all alike, each different, and each 0 or 1 alone."""
    yield {name: int(name.removeprefix("n")) for name in names}
    for size in SIZES:
        yield dict.fromkeys(names, size)
    yield {name: (5, 3, 11, 2, 17)[n % 5] for n, name in enumerate(names)}
    for alone in (0, 1):
        for name in names if len(names) > 1 else ():
            yield {**dict.fromkeys(names, 3), name: alone}


def holds(relation: Relation, values: dict[str, int]) -> bool:
    """Whether extents are as an op asks."""
    left, right = (evaluate_dim(d, values) for d in (relation.left, relation.right))
    more = {"fits": left == 1, "le": left < right}
    return left == right or more.get(relation.kind, False)


def check(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal, but for rounding relative to the scale of the whole: large extents sum much."""
    if theirs.dtype not in (np.float32, np.float64):
        close(ours, theirs)
        return
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = max(1.0, float(finite.max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("sample", list(sweep()))
def test_every_size_gives_what_the_reference_gives(sample: Any) -> None:
    module, _ = module_of(sample, dynamic=True)
    (function,) = module.ops
    arguments = function.body.block.args
    names = sorted({n for a in arguments for d in dims_of(a) for n in symbols_of(d)})
    asked = [relation for op in function.body.block.ops for relation, _ in relations(op)]
    program, ran = compiled(module), 0
    for values in choices(names):
        shapes = [tuple(evaluate_dim(d, values) for d in dims_of(a)) for a in arguments]
        if max(np.prod(shape, dtype=np.int64) for shape in shapes) > MOST_ELEMENTS:
            continue
        arrays = [np.resize(x, s) for x, s in zip(leaves(sample), shapes, strict=True)]
        if not all(holds(relation, values) for relation in asked):
            with pytest.raises(InputError):
                program.run(arrays)
            continue
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, e.g. the mean of nothing
            try:
                expected = evaluate(module, arrays)
            except (TorshError, ValueError, IndexError, ZeroDivisionError, AssertionError):
                continue
        ran += 1
        for ours, theirs in zip(program.run(arrays), expected, strict=True):
            check(ours, np.asarray(theirs))
    assert ran > 0, "the reference takes none of the extents"


def test_a_product_of_a_symbolic_number_of_steps_is_that_of_a_known_one() -> None:
    """Bit by bit, and on the same template."""
    text = """
func.func @main(%x: tensor<3x5x?xf32, #torsh.dims<[3, 5, k]>>,
    %y: tensor<3x?x40xf32, #torsh.dims<[3, k, 40]>>) -> tensor<3x5x40xf32> {
  %z = torsh.matmul %x, %y : (tensor<3x5x?xf32, #torsh.dims<[3, 5, k]>>,
      tensor<3x?x40xf32, #torsh.dims<[3, k, 40]>>) -> tensor<3x5x40xf32>
  %r = torsh.relu %z : (tensor<3x5x40xf32>) -> tensor<3x5x40xf32>
  func.return %r : tensor<3x5x40xf32>
}
"""
    ctx = Context(target=host_target())
    program = compiled(Parser(ctx, text).parse_module())
    rng = np.random.default_rng(0)
    for k in (0, 1, 3, 64, 257, 1000):
        arrays = [rng.standard_normal(s).astype(np.float32) for s in ((3, 5, k), (3, k, 40))]
        (found,) = program.run(arrays)
        expected = np.maximum(arrays[0].astype(np.float64) @ arrays[1].astype(np.float64), 0)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, k) ** 0.5)
        if not k:
            continue  # a call that sums nothing only fills its result: test_empty_sums.py
        assert "batched_gemm" in program.profile(arrays).table()
        known = text.replace("?", str(k)).replace("k]", f"{k}]").replace("k,", f"{k},")
        known = re.sub(r", #torsh.dims<[^>]*>", "", known)
        fixed = compiled(Parser(ctx, known).parse_module())
        np.testing.assert_array_equal(fixed.run(arrays)[0].view(np.int32), found.view(np.int32))


def test_rows_of_a_stack_by_one_matrix_are_one_product() -> None:
    """Every number of rows and of real columns in the last panel, on the template."""
    text = """
func.func @main(%x: tensor<?x?x?xf32, #torsh.dims<[b, m, k]>>,
    %y: tensor<?x?xf32, #torsh.dims<[k, n]>>) -> tensor<?x?x?xf32, #torsh.dims<[b, m, n]>> {
  %z = torsh.matmul %x, %y : (tensor<?x?x?xf32, #torsh.dims<[b, m, k]>>,
      tensor<?x?xf32, #torsh.dims<[k, n]>>) -> tensor<?x?x?xf32, #torsh.dims<[b, m, n]>>
  %r = torsh.relu %z : (tensor<?x?x?xf32, #torsh.dims<[b, m, n]>>)
      -> tensor<?x?x?xf32, #torsh.dims<[b, m, n]>>
  func.return %r : tensor<?x?x?xf32, #torsh.dims<[b, m, n]>>
}
"""
    program = compiled(Parser(Context(target=host_target()), text).parse_module())
    rng = np.random.default_rng(0)
    sizes = [(b, m, k, n) for b, m in ((1, 1), (2, 3), (3, 13), (0, 4), (2, 0)) for k in (0, 1, 300)
             for n in (1, 15, 17, 33, 100)]  # fmt: skip
    for b, m, k, n in sizes:
        arrays = [rng.standard_normal(s).astype(np.float32) for s in ((b, m, k), (k, n))]
        (found,) = program.run(arrays)
        expected = np.maximum(arrays[0].astype(np.float64) @ arrays[1].astype(np.float64), 0)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, k) ** 0.5)
        if b * m * k:
            assert "batched_gemm" in program.profile(arrays).table()
