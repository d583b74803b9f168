"""Running a source model in its own framework: as it is, and in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError, ValidationError
from torsh_dialect.evaluate import evaluate
from torsh_dialect.weights import WeightStore
from torsh_fx.wide import wide_array, wide_module, wide_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

    from torsh_fx.compiled import CompiledModule


@dataclass(frozen=True)
class Call:
    """The arguments of one call."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, given: Any) -> Call:
        """A tuple or list of arguments, a mapping of names, or one argument."""
        if isinstance(given, Mapping):
            return cls((), dict(given))  # pyright: ignore[reportUnknownArgumentType]
        return cls(tuple(given)) if isinstance(given, tuple | list) else cls((given,))  # pyright: ignore[reportUnknownArgumentType]

    @property
    def named(self) -> dict[str, Any]:
        """The arguments by name."""
        return dict(self.kwargs or {})


class Source(Protocol):
    """A source model that can be run.

    Attributes:
        plain: What runs it as it is, in words.
        exact: What runs it in float64, in words.
        independent: Whether float64 comes from the source's framework, not from what we imported.
    """

    @property
    def plain(self) -> str: ...
    @property
    def exact(self) -> str: ...
    @property
    def independent(self) -> bool: ...

    def run(self, call: Call) -> list[Array]:
        """The outputs as the framework computes them."""
        ...

    def run_wide(self, call: Call) -> list[Array]:
        """The outputs in float64."""
        ...


def source_of(model: Any, compiled: CompiledModule) -> Source:
    """What runs `model`.

    Raises:
        InvalidArgumentError: Nothing does.
    """
    bases = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    if "torch" in bases:
        return TorchSource(model, changes=bool(compiled.states))
    is_path = isinstance(model, str | Path)
    if "onnx" in bases or isinstance(model, bytes) or (is_path and Path(model).suffix != ".mlir"):
        return OnnxSource(model, compiled)
    if model is None:
        raise InvalidArgumentError("the source model is not known; give validate(inputs, source)")
    return ModuleSource(compiled)


class ModuleSource:
    """A graph or module that no framework knows: the ops' numpy references run it."""

    plain = "the ops' references in float32"
    exact = "the ops' references in float64"
    independent = True

    def __init__(self, compiled: CompiledModule):
        self._compiled = compiled
        self._wide = wide_module(compiled.module)
        arrays = {name: wide_array(array) for name, array in compiled.weights.items()}
        self._weights = WeightStore(arrays)

    def _inputs(self, call: Call) -> list[Array]:
        return [*self._compiled.flat_arrays(call.args, call.named), *self._compiled.state_arrays]

    def run(self, call: Call) -> list[Array]:
        """The user outputs, in order."""
        found = evaluate(self._compiled.module, self._inputs(call), self._compiled.weights)
        return found[: len(self._compiled.output_names)]

    def run_wide(self, call: Call) -> list[Array]:
        """The user outputs in float64, in order."""
        inputs = [wide_array(array) for array in self._inputs(call)]
        return evaluate(self._wide, inputs, self._weights)[: len(self._compiled.output_names)]


class TorchSource:
    """A torch module or exported program.

    Args:
        model: The model.
        changes: Whether a call changes its buffers: each call then gets a copy.
    """

    plain = "torch"
    exact = "torch in float64"
    independent = True

    def __init__(self, model: Any, *, changes: bool):
        import torch

        if isinstance(model, torch.export.ExportedProgram):
            model = model.module()
        self._changes = changes
        self._model = model
        self._wide = copy.deepcopy(model).double()

    def run(self, call: Call) -> list[Array]:
        """The tensors of the result, in order."""
        return self._leaves(self._model, call, wide=False)

    def run_wide(self, call: Call) -> list[Array]:
        """The tensors of the result in float64, in order."""
        return self._leaves(self._wide, call, wide=True)

    def _leaves(self, model: Any, call: Call, *, wide: bool) -> list[Array]:
        import torch
        from torch.utils import _pytree as pytree

        from torsh_fx.importers.torch_types import to_numpy

        def ready(value: Any) -> Any:
            if type(value).__module__ == "numpy":
                value = torch.tensor(value)
            if wide and isinstance(value, torch.Tensor) and value.is_floating_point():
                return value.double()
            return value.clone() if isinstance(value, torch.Tensor) else value

        args, kwargs = pytree.tree_map(ready, (call.args, call.named))
        model = copy.deepcopy(model) if self._changes else model
        with torch.no_grad():
            leaves = pytree.tree_leaves(model(*args, **kwargs))
        return [to_numpy(v) if isinstance(v, torch.Tensor) else np.asarray(v) for v in leaves]


class OnnxSource:
    """An ONNX model: onnxruntime runs it if it is there and can, else onnx's reference.

    In float64 onnxruntime lacks kernels of many operators, and the reference some operators; what
    neither runs, the ops' own references run on the imported module.
    """

    def __init__(self, model: Any, compiled: CompiledModule):
        from torsh_fx.importers.onnx_load import read_model

        proto, folder, _ = read_model(model)
        if folder is not None:
            _load_external(proto, folder)
        self._compiled = compiled
        self._outputs = [value.name for value in proto.graph.output]
        self._plain = _runners(proto)
        self._wide = [*_runners(wide_onnx(proto))]
        self._module: ModuleSource | None = None
        self._refusals: list[str] = []

    @property
    def plain(self) -> str:
        """What runs the model as it is."""
        return self._plain[0].name

    @property
    def exact(self) -> str:
        """What runs it in float64."""
        name = self._module.exact if self._module else f"{self._wide[0].name} in float64"
        return f"{name} ({'; '.join(self._refusals)})" if self._refusals else name

    @property
    def independent(self) -> bool:
        """Whether onnxruntime or onnx runs it in float64."""
        return self._module is None

    def _feed(self, call: Call) -> dict[str, Array]:
        flat = self._compiled.flat_arrays(call.args, call.named)
        return dict(zip(self._compiled.input_names, flat, strict=True))

    def run(self, call: Call) -> list[Array]:
        """The outputs, in order, of the first framework that runs the model.

        Raises:
            ValidationError: None does.
        """
        feed = self._feed(call)
        while True:
            try:
                return self._plain[0].run(self._outputs, feed)
            except Exception as error:  # a missing kernel has a class of its own in each framework
                refused = self._plain.pop(0)
                if not self._plain:
                    why = (str(error).splitlines() or [type(error).__name__])[0][:300]
                    raise ValidationError(f"{refused.name} cannot run the source: {why}") from error

    def run_wide(self, call: Call) -> list[Array]:
        """The outputs in float64, in order."""
        feed = {name: wide_array(array) for name, array in self._feed(call).items()}
        while self._module is None:
            try:
                return self._wide[0].run(self._outputs, feed)
            except Exception as error:  # a missing kernel has a class of its own in each framework
                refused = self._wide.pop(0)
                self._refusals.append(f"{refused.name} cannot run it: {type(error).__name__}")
                if not self._wide:
                    self._module = ModuleSource(self._compiled)
        return self._module.run_wide(call)


@dataclass
class Runner:
    """Runs an ONNX model in one framework; the framework loads it at the first run.

    Attributes:
        name: The framework.
        load: Makes a function of output names and named inputs.
    """

    name: str
    load: Callable[[], Any]
    _run: Any = None

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """The outputs; raises what the framework raises."""
        if self._run is None:
            self._run = self.load()
        return [np.asarray(value) for value in self._run(list(outputs), dict(feed))]


def _runners(proto: ModelProto) -> list[Runner]:
    """The frameworks that are there, in order of preference."""
    reference = Runner("onnx.reference", lambda: _reference(proto))
    if find_spec("onnxruntime") is None:
        return [reference]
    return [Runner("onnxruntime", lambda: _session(proto)), reference]


def _session(proto: ModelProto) -> Any:
    import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

    runtime: Any = onnxruntime
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    return runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    ).run


def _reference(proto: ModelProto) -> Any:
    from onnx.reference import ReferenceEvaluator

    return cast(Any, ReferenceEvaluator(proto)).run


def _load_external(proto: ModelProto, folder: Path) -> None:
    from onnx.external_data_helper import load_external_data_for_model

    load_external_data_for_model(proto, str(folder))
