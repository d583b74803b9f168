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
from lowering.runtime.spec import ProgramSpec
from torsh_dialect.errors import ExecutionError, InvalidArgumentError
from torsh_package import Package

if TYPE_CHECKING:
    from torsh_package.entrypoints import EntryPoint

BEST_FIRST = (
    "x86-64-v4-vnni", "x86-64-v4", "x86-64-v3-vnni", "znver3", "x86-64-v3", "x86-64-v2", "aarch64",
)  # fmt: skip
"""Targets in the order in which a machine that runs several prefers them."""


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

    def _bytes(self, resource: str) -> bytes:
        return bytes(self.package.get_resource(resource).data)

    def _weights(self, spec: ProgramSpec) -> Mapping[str, Array]:
        if not spec.weights:
            return {}
        return self.package.get_resource(weights_resource(self.target)).tensors

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.executable.spec.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self.executable.spec.outputs)

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Run on numpy arrays, in order or by name; returns the outputs in order.

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
    path: str | PathLike[str], *, threads: int | None = None, **options: Any
) -> PackagedModel:
    """Open, verify and link a package.

    Args:
        path: The `.torshpkg` file.
        threads: Most threads of a call; None takes what container and affinity allow.
        options: As `torsh_package.Package.load` takes them: `trust`, `password`, ...

    Raises:
        PackageError: The package is damaged, encrypted or not trusted.
        ExecutionError: It has no code for this machine.
    """
    return PackagedModel(Package.load(path, **options), options=RunOptions(threads))


def runner(package: Package) -> Callable[[EntryPoint, Mapping[str, Array]], Mapping[str, Array]]:
    """Makes the entry points of a package callable: `torsh_package.runners`."""
    models: dict[str, PackagedModel] = {}

    def call(entry: EntryPoint, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if entry.name not in models:
            models[entry.name] = PackagedModel(package, entry.name)
        model = models[entry.name]
        return dict(zip(model.output_names, model.run(inputs), strict=True))

    return call
