"""Resampling by element with symbolic extents, one axis after another.

Oracle: the ONNX reference evaluator; onnxruntime for symmetric half pixels, of which the
evaluator misplaces neighbours where coordinates are nearly integers.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from torsh_fx.compiler import compile

SIZES = [(1, 1, 1), (2, 1, 5), (1, 7, 1), (0, 3, 3), (1, 13, 7), (2, 5, 67)]
"""Batch, height and width."""

COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel",
               "half_pixel_symmetric")  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def model(scales: tuple[float, float], dtype: str = "float32", **attributes: Any) -> Any:
    """A resize of images `[n, 2, h, w]` by `scales`."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = helper.make_tensor_value_info("x", element, ("n", 2, "h", "w"))
    y = helper.make_tensor_value_info("y", element, ("n", 2, "p", "q"))
    factors = numpy_helper.from_array(np.asarray((1, 1, *scales), np.float32), "s")
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], **attributes)
    graph = helper.make_graph([node], "resize", [x], [y], [factors])
    opsets = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def image(size: tuple[int, int, int], dtype: str = "float32") -> Any:
    """Numbers that are all different."""
    n, h, w = size
    rng = np.random.default_rng(n + 10 * h + 100 * w)
    return rng.standard_normal((n, 2, h, w)).astype(dtype)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_nearest(coordinates: str) -> None:
    """Elements are those of the reference, whatever the order of the axes."""
    for scales, rounding in zip([(2, 2), (3, 1.5), (0.6, 2), (1, 2.5)], NEAREST, strict=True):
        if coordinates == "half_pixel_symmetric" and rounding == "ceil":
            continue  # some coordinates are integers but for their rounding
        graph = model(
            scales,
            mode="nearest",
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
        )
        f, reference = compile(graph, threads=1), ReferenceEvaluator(graph)
        for size in SIZES:
            x = image(size)
            (y,) = f.run([x])
            if 0 in y.shape:
                assert y.shape == (size[0], 2, *(int(np.floor(n * s)) for n, s in zip(
                    size[1:], scales, strict=True)))  # fmt: skip
                continue
            (expected,) = reference.run(None, {"x": x})
            np.testing.assert_array_equal(y, expected, err_msg=f"{size} {scales} {rounding}")


@pytest.mark.parametrize(("mode", "coordinates"), [*product(("linear", "cubic"), COORDINATES)])
def test_sums(mode: str, coordinates: str) -> None:
    """Weighted sums, with neighbours outside repeated or left out."""
    for scales, exclude in (((2, 2), 0), ((1.5, 3), 0), ((0.7, 2), int(mode == "cubic"))):
        options: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
        if exclude:
            options["exclude_outside"] = 1
        f = compile(model(scales, **options), threads=1)
        graph = model(scales, **options)
        symmetric = coordinates == "half_pixel_symmetric"
        session: Any = (
            onnxruntime.InferenceSession(graph.SerializeToString())
            if symmetric
            else ReferenceEvaluator(graph)
        )
        for size in SIZES:
            x = image(size)
            (y,) = f.run([x])
            if y.size:
                (expected,) = session.run(None, {"x": x})
                np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5, err_msg=f"{size}")


def test_bytes_are_repeated() -> None:
    """Nearest elements of any type; a scale that is a number of no exact multiple."""
    graph = model((2, 1.3), "uint8", mode="nearest")
    f, reference = compile(graph, threads=1), ReferenceEvaluator(graph)
    for size in ((1, 4, 9), (3, 1, 40)):
        x = (image(size) * 50).astype(np.int8).view(np.uint8)
        np.testing.assert_array_equal(f.run([x])[0], reference.run(None, {"x": x})[0])
