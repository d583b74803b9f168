"""Other ways to run the same model: oracles of `run --compare`, rivals of `bench`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError, UnsupportedError

from .model import Loaded, load_exported

PEERS = ("onnxruntime", "torch", "reference")


class Peer(Protocol):
    """A model in another engine."""

    name: str

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs in order."""
        ...


class OnnxRuntime:
    """onnxruntime with all its optimisations, on as many threads."""

    name = "onnxruntime"

    def __init__(self, loaded: Loaded, threads: int):
        if loaded.path.suffix != ".onnx":
            raise InvalidArgumentError(
                f"onnxruntime runs .onnx files, not {loaded.path.name}: "
                "`torsh run --compare reference` compares any model with our own references"
            )
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise UnsupportedError(
                "onnxruntime is not installed: pip install onnxruntime"
            ) from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session: Any = runtime.InferenceSession(str(loaded.path), options, providers)
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs in order."""
        if len(inputs) != len(self._names):
            raise InvalidArgumentError(
                "the model has a state (of its random numbers), which onnxruntime does not take: "
                "results cannot be compared"
            )
        feeds = dict(zip(self._names, inputs, strict=True))
        return [np.asarray(one) for one in self._session.run(None, feeds)]


class TorchProgram:
    """The exported program in torch, eagerly."""

    name = "torch"

    def __init__(self, loaded: Loaded, threads: int):
        if loaded.path.suffix != ".pt2":
            raise InvalidArgumentError(f"torch runs .pt2 files, not {loaded.path.name}")
        program = load_exported(loaded.path)
        import torch

        torch.set_num_threads(threads)
        self._torch: Any = torch
        self._module: Any = program.module()

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs in order."""
        torch = self._torch
        with torch.no_grad():
            result: Any = self._module(*(torch.from_numpy(np.array(one)) for one in inputs))
        leaves = torch.utils._pytree.tree_leaves(result)  # pyright: ignore[reportPrivateUsage]
        return [cast("Array", leaf.numpy()) for leaf in leaves]


class Reference:
    """The unoptimised program by the ops' numpy references: slow."""

    name = "reference"

    def __init__(self, loaded: Loaded, threads: int):
        self._imported = loaded.imported

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs in order."""
        from torsh_dialect.evaluate import evaluate

        return evaluate(self._imported.module, inputs, self._imported.weights)


def peer_named(name: str, loaded: Loaded, threads: int) -> Peer:
    """The model in the engine of that name.

    Raises:
        InvalidArgumentError: The engine does not run such files.
        UnsupportedError: The engine is not installed.
    """
    engines = {"onnxruntime": OnnxRuntime, "torch": TorchProgram, "reference": Reference}
    return engines[name](loaded, threads)


def difference(ours: Array, theirs: Array) -> tuple[float, float]:
    """The largest absolute difference, and the largest magnitude of `theirs` (its scale).

    Infinite where shapes, dtypes or the places of NaN differ.
    """
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return np.inf, 1.0
    if not ours.size:
        return 0.0, 1.0
    wide = np.complex128 if ours.dtype.kind == "c" else np.float64
    a, b = ours.astype(wide), theirs.astype(wide)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf, 1.0
    same = (a == b) | np.isnan(a)
    finite = np.abs(b[np.isfinite(b)])
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(np.where(same, 0, a - b)).max())
    return largest, float(finite.max()) if finite.size else 1.0
