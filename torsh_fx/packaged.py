"""Running a compiled model out of a `.torshpkg`, with numpy alone.

Nothing here imports xdsl, torch or onnx: the package has machine code for this kind of machine,
and weights that are mapped and used in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.machine import NEEDED_FLAGS, machine_flags
from lowering.runtime.signature import Array
from lowering.runtime.spec import EntrySpec, ProgramSpec
from torsh_dialect.errors import ExecutionError, InvalidArgumentError
from torsh_fx.calls import as_numpy, as_torch, by_position, is_torch
from torsh_package import Package

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


def spec_resource(target: str) -> str:
    """The resource with the program's specification for a target."""
    return f"aot/{target}/program.json"


def weights_resource(target: str) -> str:
    """The resource with the weights as a target's kernels want them."""
    return f"weights/{target}"


class PackagedModel:
    """An entry point of a package, linked. Thread-safe; keeps the package's mapping alive.

    Attributes:
        package: The package.
        entrypoint: What is called.
        target: The target whose code runs.
        executable: The linked code.
    """

    def __init__(
        self,
        package: Package,
        entrypoint: str = "main",
        options: RunOptions | None = None,
        target: str | None = None,
    ):
        self.package = package
        self.entrypoint = _entry_of(package, entrypoint)
        self.target = _target_of(self.entrypoint, target)
        spec = ProgramSpec.from_json(self._bytes(spec_resource(self.target)))
        prefix = f"aot/{self.target}/"
        names = [o.resource for o in self.entrypoint.objects if o.resource.startswith(prefix)]
        host, *objects = (self._bytes(name) for name in sorted(names))
        self.program = Program(spec, objects, self._weights(spec), host=host)
        self.executable = Executable(self.program, entrypoint, options)
        self._state = _first_state(package, self.entrypoint, self.executable.spec)

    def _bytes(self, resource: str) -> bytes:
        return bytes(self.package.get_resource(resource).data)

    def _weights(self, spec: ProgramSpec) -> Mapping[str, Array]:
        if not spec.weights:
            return {}
        return self.package.get_resource(weights_resource(self.target)).tensors

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a call, in order; state is not among them."""
        names = [spec.name for spec in self.executable.spec.inputs]
        return tuple(name for name in names if name not in self._state)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of a call, in order; state, which stands behind them, is not."""
        outputs = self.executable.spec.outputs
        return tuple(spec.name for spec in outputs[: len(outputs) - len(self._state)])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on numpy arrays or torch tensors, by position or by name; the same kind comes back.

        A model of one output gives it alone, others a tuple in order. A stateful model starts
        from its first state in every call.

        Raises:
            InvalidArgumentError: An input is missing, unknown, or too many.
            InputError: The inputs break the signature.
            ExecutionError: A run-time check failed, or memory ran out.
        """
        given = by_position(self.input_names, args, kwargs)
        found = self.run([*map(as_numpy, given), *self._state.values()])
        found = found[: len(self.output_names)]
        outputs = [as_torch(one) for one in found] if any(map(is_torch, given)) else found
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Run on numpy arrays, in order or by name; returns the outputs in order.

        A stateful model takes and gives its state here, behind the inputs and outputs.

        Raises:
            InputError: The inputs break the signature.
            ExecutionError: A run-time check failed, or memory ran out.
        """
        return self.executable.run(inputs)


def _entry_of(package: Package, name: str) -> EntryPoint:
    found = package.entrypoints.get(name)
    if found is None:
        known = ", ".join(package.entrypoints) or "none"
        raise InvalidArgumentError(f"the package has no entry point {name!r}; it has: {known}")
    return found


def _first_state(package: Package, entry: EntryPoint, spec: EntrySpec) -> dict[str, Array]:
    """First values of the inputs that take state, in order.

    Raises:
        ExecutionError: One is missing in the package.
    """
    kept = [s.name for s in spec.inputs if f"{STATE_KEY}{s.name}" in dict(entry.metadata)]
    arrays: Mapping[str, Array] = package.get_resource(STATE).tensors if kept else {}
    if absent := [name for name in kept if name not in arrays]:
        raise ExecutionError(f"the package has no first value of the state {', '.join(absent)}")
    return {name: arrays[name] for name in kept}


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
        Package.load(path, **options), options=RunOptions(threads, flush_denormals)
    )


def runner(package: Package) -> Callable[[EntryPoint, Mapping[str, Array]], Mapping[str, Array]]:
    """Makes the entry points of a package callable: `torsh_package.runners`."""
    models: dict[str, PackagedModel] = {}

    def call(entry: EntryPoint, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if entry.name not in models:
            models[entry.name] = PackagedModel(package, entry.name)
        model = models[entry.name]
        names = [spec.name for spec in model.executable.spec.outputs]
        return dict(zip(names, model.run(inputs), strict=True))

    return call
