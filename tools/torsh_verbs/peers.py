"""Other ways to run the same model: oracles of `run --compare`, rivals of `bench`."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.errors import ExecutionError, InvalidArgumentError, UnsupportedError
from torsh_fx.sources import opened

from .model import Loaded

PEERS = ("onnxruntime", "torch", "reference")


class Peer(Protocol):
    """A model in another engine; takes and gives arrays, and lists of them for sequences."""

    name: str

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs in order."""
        ...


@contextmanager
def _refusals(engine: str) -> Generator[None]:
    """What another engine raises, each with classes of its own, as one error."""
    try:
        yield
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExecutionError(f"{engine} cannot run the model on these inputs: {why}") from error


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
        with _refusals(self.name):
            self._session: Any = runtime.InferenceSession(str(loaded.path), options, providers)
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs in order."""
        if len(inputs) != len(self._names):
            raise InvalidArgumentError(
                "the model has a state (of its random numbers), which onnxruntime does not take: "
                "results cannot be compared"
            )
        feeds = dict(zip(self._names, inputs, strict=True))
        with _refusals(self.name):
            return list(self._session.run(None, feeds))


class TorchProgram:
    """The exported program in torch, eagerly."""

    name = "torch"

    def __init__(self, loaded: Loaded, threads: int):
        if loaded.path.suffix != ".pt2":
            raise InvalidArgumentError(f"torch runs .pt2 files, not {loaded.path.name}")
        program = opened(loaded.path)
        import torch

        torch.set_num_threads(threads)
        self._torch: Any = torch
        self._module: Any = program.module()

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs in order."""
        torch = self._torch
        with torch.no_grad(), _refusals(self.name):
            result: Any = self._module(*(torch.from_numpy(np.array(one)) for one in inputs))
        leaves = torch.utils._pytree.tree_leaves(result)  # pyright: ignore[reportPrivateUsage]
        return [cast("Array", leaf.numpy()) for leaf in leaves]


class Reference:
    """The unoptimised program by the ops' numpy references: slow."""

    name = "reference"

    def __init__(self, loaded: Loaded, threads: int):
        self._imported = loaded.imported

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
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
