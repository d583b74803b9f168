"""Check the arrays of a call against a compiled signature, and say what is wrong by name."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lowering.runtime.dtypes import numpy_dtype
from lowering.runtime.spec import EntrySpec, Extent, TensorSpec
from torsh_dialect.dims import Expr, evaluate_dim, parse_dim, symbols_of
from torsh_dialect.errors import InputError

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


class Signature:
    """The inputs and outputs of an entry, prepared for checking calls."""

    def __init__(self, spec: EntrySpec):
        self.spec = spec
        self.input_dtypes = tuple(numpy_dtype(one.dtype) for one in spec.inputs)
        self.output_dtypes = tuple(numpy_dtype(one.dtype) for one in spec.outputs)
        self._dims = [
            tuple(d if isinstance(d, int) else parse_dim(d) for d in one.dims)
            for one in spec.inputs
        ]
        self._bounds = {one.name: one for one in spec.symbols}
        self._layouts = tuple(one.layout for one in spec.inputs)
        self._axes = tuple(one.axes if one.layout else () for one in spec.inputs)
        self.stores = any(one.layout for one in spec.outputs)

    def arrange(self, inputs: Sequence[Array] | Mapping[str, Array]) -> Sequence[Array]:
        """The inputs in order of the signature.

        Raises:
            InputError: A name or the number of inputs is wrong.
        """
        if isinstance(inputs, Mapping):
            names = [one.name for one in self.spec.inputs]
            missing = [name for name in names if name not in inputs]
            unknown = [name for name in inputs if name not in names]
            if missing or unknown:
                problems = [f"no input is called {name!r}" for name in unknown]
                problems += [f"input {name!r} is missing" for name in missing]
                raise InputError(f"{'; '.join(problems)}; the inputs are: {', '.join(names)}")
            return [inputs[name] for name in names]
        if len(inputs) != len(self.spec.inputs):
            names = ", ".join(one.name for one in self.spec.inputs)
            raise InputError(
                f"{len(inputs)} inputs were given; {len(self.spec.inputs)} are needed: {names}"
            )
        return inputs

    def usable(self, index: int, array: Array) -> Array:
        """Input `index` as the program can read it: itself, or a copy where it is not contiguous.

        One with a layout comes with its axes in that order.

        Raises:
            InputError: It is no array, or of another dtype.
        """
        expected = self.input_dtypes[index]
        name = self.spec.inputs[index].name
        if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"input {name!r} is a {type(array).__name__}; give a numpy array")
        if array.dtype != expected:
            raise InputError(
                f"input {name!r} has dtype {array.dtype}, not {expected}; convert it with "
                f".astype({expected.name!r})"
            )
        if (layout := self._layouts[index]) and array.ndim == len(layout):
            array = array.transpose(layout)
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
        return np.array(array, order="C", copy=True)

    def logical(self, outputs: Sequence[Array]) -> list[Array]:
        """Outputs as they lie in memory, seen with their axes in order."""
        return [one.logical(a) for one, a in zip(self.spec.outputs, outputs, strict=True)]

    def check(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Check ranks, extents, bounds and equalities; returns the values of the symbols.

        Args:
            shapes: Shapes of the inputs as `usable` gives them.

        Raises:
            InputError: With the input's name, the axis, the value and the limit.
        """
        values: dict[str, int] = {}
        origin: dict[str, str] = {}
        shapes = [
            tuple(shape[axis] for axis in axes) if len(axes) == len(shape) else shape
            for axes, shape in zip(self._axes, shapes, strict=True)
        ]
        for spec, dims, shape in zip(self.spec.inputs, self._dims, shapes, strict=True):
            if len(dims) != len(shape):
                raise InputError(
                    f"input {spec.name!r} has rank {len(shape)} (shape {shape}), not {len(dims)} "
                    f"({_spelled(spec)})"
                )
            for axis, (dim, extent) in enumerate(zip(dims, shape, strict=True)):
                text = str(dim)
                if isinstance(dim, Expr) and text.isidentifier() and text not in values:
                    values[text], origin[text] = extent, f"axis {axis} of {spec.name!r}"
        for name, value in values.items():
            self._check_bound(name, value, origin[name])
        for spec, dims, shape in zip(self.spec.inputs, self._dims, shapes, strict=True):
            for axis, (dim, extent) in enumerate(zip(dims, shape, strict=True)):
                if symbols_of(dim) <= values.keys() and evaluate_dim(dim, values) != extent:
                    raise InputError(_mismatch(spec, axis, str(dim), extent, values, origin))
        return values

    def _check_bound(self, name: str, value: int, where: str) -> None:
        bound = self._bounds.get(name)
        if bound is None:
            return
        if value < bound.lower or (bound.upper is not None and value > bound.upper):
            upper = "" if bound.upper is None else bound.upper
            raise InputError(
                f"{name} is {value} ({where}), outside of its bounds {bound.lower}..{upper}; "
                f"compile with wider bounds for {name!r} or change the input"
            )


def _spelled(spec: TensorSpec) -> str:
    def one(dim: Extent) -> str:
        return str(dim)

    return f"{spec.dtype}[{', '.join(one(d) for d in spec.dims)}]"


def _mismatch(
    spec: TensorSpec,
    axis: int,
    dim: str,
    extent: int,
    values: Mapping[str, int],
    origin: Mapping[str, str],
) -> str:
    names = sorted(symbols_of(parse_dim(dim)))
    wanted = evaluate_dim(parse_dim(dim), values)
    known = ", ".join(f"{name} is {values[name]} by {origin[name]}" for name in names)
    reason = f"{dim} = {wanted} ({known})" if known else str(wanted)
    return f"input {spec.name!r} has extent {extent} at axis {axis}, not {reason}"
