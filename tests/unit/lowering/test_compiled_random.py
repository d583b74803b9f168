"""Random numbers of compiled programs: numpy's stream with a seed, the distribution without one."""

import numpy as np
import pytest
from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.runtime.executable import Executable, Program, RunOptions
from torsh_dialect.context import Context
from torsh_fx.pipeline import optimise

COUNT = 200_000


def drawn(properties: str, element: str = "f64", threads: int = 1) -> list[np.ndarray]:
    """Two runs of a program that draws `COUNT` numbers twice."""
    type = f"tensor<{COUNT}x{element}>"
    draw = f"torsh.random_{properties} : () -> {type}"
    text = f"""
func.func @main() -> ({type}, {type}) {{
  %a = {draw}
  %b = {draw}
  func.return %a, %b : {type}, {type}
}}
"""
    ctx = Context(target=host_target())
    module = Parser(ctx, text).parse_module()
    optimise(module, ctx)
    main, _ = lower_module(module, ctx.target)
    objects = shared_generator(CodegenSettings()).compile(main.units)
    run = Executable(Program(main.spec, objects), options=RunOptions(threads=threads))
    return [array for _ in range(2) for array in run.run([])]


TARGET = f"target = #torsh.dims<[{COUNT}]>"
UNIFORM = f"uniform {{element = f64, low = -1.0 : f64, high = 3.0 : f64, {TARGET}"
NORMAL = f"normal {{element = f64, mean = 2.0 : f64, scale = 0.5 : f64, {TARGET}"


@pytest.mark.parametrize("threads", [1, 2])
def test_seeded_uniform_is_numpys_stream(threads: int) -> None:
    expected = np.random.Generator(np.random.Philox(42)).random(COUNT) * 4.0 - 1.0
    for array in drawn(UNIFORM + ", seed = 42 : i64}", threads=threads):
        np.testing.assert_array_equal(array, expected)


def test_seeded_normal_repeats() -> None:
    first, *others = drawn(NORMAL + ", seed = 7 : i64}")
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_unseeded_numbers_differ_from_draw_to_draw() -> None:
    for properties in (UNIFORM + "}", NORMAL + "}"):
        arrays = drawn(properties)
        for n, array in enumerate(arrays):
            assert len(np.unique(array)) == COUNT
            for other in arrays[:n]:
                assert not np.isin(array[:1000], other).any()


@pytest.mark.parametrize("seed", ["", ", seed = 3 : i64"])
def test_moments(seed: str) -> None:
    """Means and deviations within 5 standard errors, and no correlation of neighbours."""
    error = 5 / np.sqrt(COUNT)
    for properties, mean, deviation in ((UNIFORM, 1.0, 4 / np.sqrt(12)), (NORMAL, 2.0, 0.5)):
        for array in drawn(properties + seed + "}"):
            standard = (array - mean) / deviation
            assert abs(standard.mean()) < error
            assert abs(standard.std() - 1) < error
            assert abs(np.mean(standard[1:] * standard[:-1])) < error
