"""Inputs of a run: from .npy and .npz files, or random by the signature."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np

from lowering.runtime.spec import EntrySpec, SymbolSpec, TensorSpec
from torsh_dialect.attributes import Array
from torsh_dialect.dims import Dim, evaluate_dim, parse_dim
from torsh_dialect.dtypes import dtype_named
from torsh_dialect.errors import ImportModelError, InvalidArgumentError

from ..arguments import integer_range, named_extent, named_file, whole

USUAL_EXTENT = 2
"""A free extent of random inputs, where the bounds allow it: neither 0 nor 1."""

USUAL_ITEMS = 2
"""Items of random sequences."""

WORDS = np.array(["alpha", "Bravo", "charlie", "delta 4", "ECHO", ""], object)
"""What random strings are drawn from."""


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how inputs are found or made."""
    group = parser.add_argument_group("inputs (random where nothing is given)")
    group.add_argument(
        "--inputs", metavar="FILE", help=".npz: arrays by input name; .npy: the only input"
    )
    group.add_argument(
        "--input", metavar="NAME=FILE.npy", type=named_file, action="append", default=[],
        help="one input; NAME=FILE.npz: the items of a sequence, in the order of the file",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=whole(), metavar="N", default=0, help="of random inputs (default: 0)"
    )
    group.add_argument(
        "--size", metavar="NAME=N", type=named_extent, action="append", default=[],
        help="free extents of random ones",
    )  # fmt: skip
    group.add_argument(
        "--integers", metavar="LOW:HIGH", type=integer_range, default=(0, 2),
        help="range of random ones (default: 0:2)",
    )  # fmt: skip


def inputs_of_arguments(
    args: argparse.Namespace, entry: EntrySpec, sequences: Collection[str] = ()
) -> list[Any]:
    """The inputs in order: arrays, and lists of arrays for those that are sequences.

    Raises:
        InvalidArgumentError: A file holds something else than the inputs, or an option is wrong.
    """
    names = [spec.name for spec in entry.inputs]
    given = read_inputs(args.inputs, args.input, names, sequences)
    if unknown := sorted(set(given) - set(names)):
        raise InvalidArgumentError(
            f"the model has no inputs {', '.join(unknown)}; it has: {', '.join(names)}"
        )
    made = random_inputs(entry, args.seed, dict(args.size), args.integers, sequences)
    return [given.get(name, array) for name, array in zip(names, made, strict=True)]


def read_inputs(
    archive: str | None,
    pairs: Sequence[tuple[str, str]],
    names: Sequence[str],
    sequences: Collection[str] = (),
) -> dict[str, Any]:
    """Arrays by input name, lists of them for sequences.

    Args:
        archive: An .npz file, or an .npy file for a model of one input.
        pairs: Names and `.npy` files.
        names: The model's inputs.
        sequences: Those that are sequences.

    Raises:
        ImportModelError: A file is damaged, or holds Python objects.
        InvalidArgumentError: A file does not say for which inputs its arrays are.
    """
    found: dict[str, Any] = {}
    if archive is not None:
        loaded = _loaded(archive)
        if isinstance(loaded, np.ndarray):
            if len(names) != 1:
                raise InvalidArgumentError(
                    f"{archive} holds one array without a name, the model has the inputs "
                    f"{', '.join(names)}: give an .npz file with arrays of these names"
                )
            loaded = {names[0]: loaded}
        found |= {n: [a] if n in sequences else a for n, a in loaded.items()}
    for name, path in pairs:
        array = _loaded(path)
        if name in sequences:
            found[name] = [array] if isinstance(array, np.ndarray) else list(array.values())
            continue
        if not isinstance(array, np.ndarray):
            raise InvalidArgumentError(
                f"--input {name}={path}: an .npz file holds several arrays: use --inputs"
            )
        found[name] = array
    return found


def _loaded(path: str) -> Array | dict[str, Array]:
    """The array of an .npy file, or the arrays of an .npz file."""
    try:
        with open(path, "rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return cast("Array", loaded)
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, BadZipFile, MemoryError) as error:
        why = "it holds Python objects, which are not read" if "pickle" in str(error) else error
        raise ImportModelError(f"{path} holds no arrays, or is damaged: {why}") from None


def random_inputs(
    entry: EntrySpec,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    integers: tuple[int, int] = (0, 2),
    sequences: Collection[str] = (),
) -> list[Any]:
    """Inputs from a fixed random state: normal floats, integers of a range, fair bools, words.

    Args:
        entry: The signature.
        seed: Seed of numpy's default generator.
        sizes: Values of symbols; others get a usual extent within their bounds.
        integers: The least value of integers, and one more than the greatest.
        sequences: Inputs that are sequences: each gets `USUAL_ITEMS` items.

    Raises:
        InvalidArgumentError: `sizes` names something else than the symbols, or an input has no
            random values.
    """
    rng = np.random.default_rng(seed)
    bounds = {spec.name: spec for spec in entry.symbols}
    dims = [[_dim(extent) for extent in spec.dims] for spec in entry.inputs]
    names = {n for row in dims for dim in row if not isinstance(dim, int) for n in dim.symbols()}
    if unknown := sorted(set(sizes or {}) - names):
        known = ", ".join(sorted(names)) or "none"
        raise InvalidArgumentError(f"no free extent is called {', '.join(unknown)}; free: {known}")
    values = {name: _usual(bounds.get(name)) for name in names} | dict(sizes or {})
    made: list[Any] = []
    for spec, row in zip(entry.inputs, dims, strict=True):
        shape = [evaluate_dim(dim, values) for dim in row]
        count = USUAL_ITEMS if spec.name in sequences else 1
        items = [_random(rng, spec, shape, integers) for _ in range(count)]
        made.append(items if spec.name in sequences else items[0])
    return made


def _dim(extent: int | str) -> Dim:
    return extent if isinstance(extent, int) else parse_dim(extent)


def _usual(bounds: SymbolSpec | None) -> int:
    if bounds is None:
        return USUAL_EXTENT
    upper = USUAL_EXTENT if bounds.upper is None else min(bounds.upper, USUAL_EXTENT)
    return max(bounds.lower, upper)


def _random(
    rng: np.random.Generator, spec: TensorSpec, shape: Sequence[int], integers: tuple[int, int]
) -> Array:
    try:
        return _drawn(rng, spec, shape, integers)
    except InvalidArgumentError:
        raise
    except (MemoryError, ValueError) as error:  # numpy's word for an extent beyond its limit
        raise InvalidArgumentError(
            f"no random input {spec.name!r} of extents {list(shape)}: {error}; "
            "choose smaller extents with --size"
        ) from None


def _drawn(
    rng: np.random.Generator, spec: TensorSpec, shape: Sequence[int], integers: tuple[int, int]
) -> Array:
    dtype = dtype_named(spec.dtype)
    match dtype.kind:
        case "bool":
            return rng.integers(0, 2, shape).astype(np.bool_)
        case "int" | "uint":
            return rng.integers(*integers, shape).astype(dtype.numpy)
        case "float":
            return rng.normal(size=shape).astype(dtype.numpy)
        case "complex":
            return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype.numpy)
        case "string":
            return rng.choice(WORDS, shape)
        case kind:
            raise InvalidArgumentError(
                f"there are no random inputs of kind {kind}; give {spec.name!r} by --input"
            )
