"""Random numbers: counted streams, so that a seed gives the same numbers everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, Float64Type, FloatAttr, IntegerAttr
from xdsl.ir import Attribute
from xdsl.irdl import opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, extents_of
from torsh_dialect.declare import op
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Random
from torsh_dialect.types import AnyTensor, tensor

F64 = FloatAttr[Float64Type]


class Filled(Random):
    """Independent numbers of one distribution in a tensor of extents `target`.

    With a `seed` every run draws the same numbers (numpy's Philox with that key); without one
    they differ from run to run.
    """

    target = prop_def(Attribute)
    element = prop_def(Attribute)
    seed = opt_prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if dtype_of(self.element).kind != "float":
            raise ShapeError(f"random numbers are floats, not {self.element} (C1)")
        return (tensor(self.element, extents_of(self.target)),)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """Numbers in f64."""
        raise NotImplementedError

    def evaluate(self, *args: Array) -> Sequence[Array]:
        seed = None if self.seed is None else self.seed.value.data
        shape = tuple(int(str(d)) for d in extents_of(self.target))
        generator = np.random.Generator(np.random.Philox(seed))
        return (self.draw(generator, shape).astype(dtype_of(self.element).numpy),)


@op
class RandomUniformOp(Filled):
    """Uniform numbers in [low, high).

    C1: the element type is a float.

    %r = torsh.random_uniform {element = f32, high = 1.0 : f64, low = 0.0 : f64, target = #torsh.dims<[2, 3]>} : () -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.random_uniform"
    low = prop_def(F64)
    high = prop_def(F64)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        low, high = self.low.value.data, self.high.value.data
        return generator.random(shape) * (high - low) + low


@op
class RandomNormalOp(Filled):
    """Normally distributed numbers: number i by Box and Muller from numbers 2i and 2i + 1 in [0, 1).

    C1: the element type is a float.

    %r = torsh.random_normal {element = f32, mean = 0.0 : f64, scale = 1.0 : f64, target = #torsh.dims<[2, 3]>} : () -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.random_normal"
    mean = prop_def(F64)
    scale = prop_def(F64)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        drawn = generator.random((*shape, 2))
        radius = np.sqrt(-2 * np.log1p(-drawn[..., 0]))
        standard = radius * np.cos(2 * np.pi * drawn[..., 1])
        return standard * self.scale.value.data + self.mean.value.data
