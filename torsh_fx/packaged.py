"""Running a compiled model out of a `.torshpkg`, with numpy alone.

Nothing here imports xdsl, torch or onnx: the package has machine code for this kind of machine,
and weights that are mapped and used in place.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

import numpy as np

from lowering.runtime.dtypes import numpy_dtype
from lowering.runtime.executable import PREPARE, Executable, Program, RunOptions
from lowering.runtime.machine import NEEDED_FLAGS, machine_flags
from lowering.runtime.signature import Array
from lowering.runtime.spec import EntrySpec, ProgramSpec
from torsh_dialect.errors import ExecutionError, InvalidArgumentError
from torsh_fx.calls import as_numpy
from torsh_fx.interface import Interface, State
from torsh_fx.linked import LinkedModel
from torsh_fx.linking import Linked
from torsh_fx.weights import Preparation
from torsh_package import Package, Resource

if TYPE_CHECKING:
    from torsh_package.entrypoints import EntryPoint

BEST_FIRST = (
    "x86-64-v4-vnni", "x86-64-v4", "x86-64-v3-vnni", "znver3", "x86-64-v3", "x86-64-v2", "aarch64",
)  # fmt: skip
"""Targets in the order in which a machine that runs several prefers them."""


STATE = "state/main"
"""The resource with the first values of the inputs that take state, by their names."""

STATE_KEY = "state."
"""Metadata of an entry point: `state.INPUT: OUTPUT` for each input that takes state."""

STATE_NAME_KEY = "state-name."
"""Metadata of an entry point: `state-name.INPUT: NAME`, the state's name in the source."""


def spec_resource(target: str) -> str:
    """The resource with the program's specification for a target."""
    return f"aot/{target}/program.json"


def weights_resource(target: str) -> str:
    """The resource with the weights as a target's kernels want them."""
    return f"weights/{target}"


def constants_resource(target: str) -> str:
    """The resource with the names of the weights that the compiler made for a target."""
    return f"aot/{target}/constants.json"


def prepare_folder(target: str) -> str:
    """Where the code is that makes a target's weights of the model's own."""
    return f"prepare/{target}/"


class PackagedModel(LinkedModel):
    """An entry point of a package, linked. Thread-safe; keeps the package's mapping alive.

    Attributes:
        package: The package.
        entrypoint: What is called.
        target: The target whose code runs.
        interface: All inputs and outputs, state among them.
    """

    def __init__(
        self,
        package: Package,
        entrypoint: str = "main",
        options: RunOptions | None = None,
        target: str | None = None,
        *,
        owns: bool = False,
    ):
        """Link an entry point.

        Args:
            package: The package.
            entrypoint: Name of an entry point.
            options: How calls run.
            target: The target whose code runs; the best of those this machine runs by default.
            owns: Close the package when the model is closed.

        Raises:
            InvalidArgumentError: There is no such entry point or target.
            ExecutionError: There is no code for this machine.
        """
        self._owns = owns
        self.package = package
        self.entrypoint = _entry_of(package, entrypoint)
        self.target = _target_of(self.entrypoint, target)
        spec = ProgramSpec.from_json(self._bytes(spec_resource(self.target)))
        prefix = f"aot/{self.target}/"
        names = [o.resource for o in self.entrypoint.objects if o.resource.startswith(prefix)]
        host, *objects = (self._bytes(name) for name in sorted(names))
        program = Program(spec, objects, self._weights(spec), host=host)
        executable = Executable(program, entrypoint, options)
        super().__init__(
            _interface(self.entrypoint, executable.spec),
            executable,
            _first_state(package, self.entrypoint, executable.spec),
        )
        self._own: dict[str, Array] = {}

    def close(self) -> None:
        """As `LinkedModel.close`; a package that was opened for this model alone closes too."""
        super().close()
        self._own = {}
        self.__dict__.pop("_linked", None)
        if self._owns:
            self.package.close()

    forward = LinkedModel.__call__

    def _bytes(self, resource: str) -> bytes:
        return bytes(self.package.get_resource(resource).data)

    def _weights(self, spec: ProgramSpec) -> Mapping[str, Array]:
        if not spec.weights:
            return {}
        return self.package.get_resource(weights_resource(self.target)).tensors

    @cached_property
    def _linked(self) -> Linked:
        """The program with what makes its weights, which is linked when it is first wanted."""
        folder, program = prepare_folder(self.target), self.program
        constants = cast("list[str]", self.package.get_resource(
            constants_resource(self.target)).json())  # fmt: skip
        table = program.weights
        now = dict(zip((w.name for w in program.spec.weights), table.arrays if table else (),
                       strict=True))  # fmt: skip
        entry = None
        if self.package.has_resource(f"{folder}program.json"):
            spec = ProgramSpec.from_json(self._bytes(f"{folder}program.json"))
            objects = [n for n in self.package.list_resources() if n.startswith(folder)]
            code = [self._bytes(name) for name in objects if name.endswith(".o")]
            given: Mapping[str, Array] = {}
            if self.package.has_resource(f"{folder}constants"):
                given = self.package.get_resource(f"{folder}constants").tensors
            host = self._bytes(f"aot/{self.target}/0000.o")
            entry = Executable(Program(spec, code, given, host=host), PREPARE)
        kept = {name: now[name] for name in constants}
        return Linked(program, Preparation(program.spec, kept, entry))

    @property
    def weight_types(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of the model's own weights, by name."""
        return self._linked.preparation.types

    def load_weights(
        self,
        weights: Mapping[str, Any] | Resource | bytes,
        strict: bool = True,
        *,
        mapping: Mapping[str, str] | None = None,
    ) -> None:
        """Use other weights from now on; calls that are running finish with the old ones.

        Args:
            weights: Arrays or tensors by the model's names (`weight_types`), a resource with a
                table of tensors, or the bytes of an `.npz` file.
            strict: Refuse names that the model does not have, and want all that it has. Without
                it other names are ignored, and weights that were loaded before stay.
            mapping: New names for those given, such as `{"fc1.weight": "layers.0.weight"}`.

        Raises:
            InvalidArgumentError: Names are missing or unknown, or a dtype or shape differs; all
                of them are listed, and nothing has changed then.
        """
        names = mapping or {}
        found = {names.get(k, k): as_numpy(v) for k, v in arrays_of(weights).items()}
        types = self.weight_types
        problems = [f"{name} is not in the model" for name in found if strict and name not in types]
        problems += [f"{name} is missing" for name in types if strict and name not in found]
        found = {name: array for name, array in found.items() if name in types}
        for name, array in found.items():
            dtype, dims = types[name]
            if (array.dtype, array.shape) != (numpy_dtype(dtype), dims):
                has = f"{array.dtype}{list(array.shape)}"
                problems.append(f"{name} is {has}, expected {dtype}{list(dims)}")
        own = {**self._own, **found}
        if not problems and (absent := [name for name in types if name not in own]):
            problems = [
                f"{name} is not known: the package has it only as the kernels want it; "
                "load all weights once" for name in absent
            ]  # fmt: skip
        if problems:
            raise InvalidArgumentError("weights cannot be loaded: " + "; ".join(problems))
        self._linked.use(own)
        self._own = own

    def set_parameter(self, name: str, weight: Any) -> None:
        """Use another value for one weight; see `load_weights`.

        Raises:
            InvalidArgumentError: The name is unknown, dtype or shape differs, or the others were
                never loaded and are in the package only as the kernels want them.
        """
        if name not in self.weight_types:
            known = ", ".join(list(self.weight_types)[:8]) or "none"
            raise InvalidArgumentError(f"the model has no weight {name!r}; it has {known}")
        self.load_weights({name: weight}, strict=False)


def arrays_of(weights: Mapping[str, Any] | Resource | bytes) -> Mapping[str, Any]:
    """Weights by name, from a mapping, a resource, or the bytes of an `.npz` file.

    Raises:
        InvalidArgumentError: The bytes are no such file.
    """
    if isinstance(weights, Resource):
        if weights.table is not None:
            return weights.tensors
        weights = bytes(weights)
    if isinstance(weights, Mapping):
        return weights
    try:
        with np.load(io.BytesIO(weights), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, BadZipFile) as error:
        raise InvalidArgumentError(f"the bytes are no .npz file of arrays: {error}") from None


def _entry_of(package: Package, name: str) -> EntryPoint:
    found = package.entrypoints.get(name)
    if found is None:
        known = ", ".join(package.entrypoints) or "none"
        raise InvalidArgumentError(f"the package has no entry point {name!r}; it has: {known}")
    return found


def _first_state(package: Package, entry: EntryPoint, spec: EntrySpec) -> list[Array]:
    """First values of the inputs that take state, in order.

    Raises:
        ExecutionError: One is missing in the package.
    """
    kept = [s.name for s in spec.inputs if f"{STATE_KEY}{s.name}" in dict(entry.metadata)]
    arrays: Mapping[str, Array] = package.get_resource(STATE).tensors if kept else {}
    if absent := [name for name in kept if name not in arrays]:
        raise ExecutionError(f"the package has no first value of the state {', '.join(absent)}")
    return [arrays[name] for name in kept]


def _interface(entry: EntryPoint, spec: EntrySpec) -> Interface:
    """Inputs and outputs; a state's name is that of its input where the package has no other."""
    inputs, outputs = (tuple(one.name for one in side) for side in (spec.inputs, spec.outputs))
    metadata = dict(entry.metadata)
    state = tuple(
        State(
            metadata.get(f"{STATE_NAME_KEY}{name}", name), number,
            outputs.index(metadata[f"{STATE_KEY}{name}"]), name,
        )
        for number, name in enumerate(inputs)
        if f"{STATE_KEY}{name}" in metadata
    )  # fmt: skip
    return Interface(inputs, outputs, state)


def _target_of(entry: EntryPoint, wanted: str | None) -> str:
    """The best target of the entry point that this machine runs."""
    there = [key.removeprefix("spec.") for key, _ in entry.metadata if key.startswith("spec.")]
    if wanted is not None:
        if wanted not in there:
            raise InvalidArgumentError(
                f"the package has no code for {wanted!r}; it has: {', '.join(there)}"
            )
        return wanted
    flags = machine_flags()
    for name in BEST_FIRST:
        if name in there and NEEDED_FLAGS[name] <= flags:
            return name
    raise ExecutionError(
        f"the package has code for {', '.join(there) or 'no target'}; this machine runs none of it"
    )


def load_package(
    path: str | PathLike[str],
    *,
    threads: int | None = None,
    flush_denormals: bool = False,
    **options: Any,
) -> PackagedModel:
    """Open, verify and link a package.

    Args:
        path: The `.torshpkg` file.
        threads: Most threads of a call; None takes what container and affinity allow.
        flush_denormals: Treat denormal numbers as zero during calls.
        options: As `torsh_package.Package.load` takes them: `trust`, `password`, ...

    Raises:
        PackageError: The package is damaged, encrypted or not trusted.
        ExecutionError: It has no code for this machine.
    """
    return PackagedModel(
        Package.load(path, **options), options=RunOptions(threads, flush_denormals), owns=True
    )


def runner(package: Package) -> Callable[[EntryPoint, Mapping[str, Array]], Mapping[str, Array]]:
    """Makes the entry points of a package callable: `torsh_package.runners`."""
    models: dict[str, PackagedModel] = {}

    def call(entry: EntryPoint, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if entry.name not in models:
            models[entry.name] = PackagedModel(package, entry.name)
        model = models[entry.name]
        found = model.run(inputs)
        return dict(zip(model.interface.outputs[: len(found)], found, strict=True))

    return call
