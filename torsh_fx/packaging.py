"""A compiled model as a `.torshpkg`: program, prepared weights, code for each target, golden cases.

For each target the package has `aot/TARGET/` with the specification and the objects, and
`weights/TARGET` with the weights as that target's kernels want them; `prepare/TARGET/` holds the
code that makes these of the model's own, should it get others. Sample inputs and the
outputs they gave when the package was made are golden cases, which `torsh-package verify
--replay` computes again on the user's machine. `torsh_fx.packaged` loads all this with neither
xdsl nor torch nor onnx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lowering.codegen import host_unit
from lowering.program.build import Lowered, lower_module
from lowering.runtime.abi import ABI_VERSION
from lowering.runtime.spec import EntrySpec
from torsh_dialect.attributes import Array, text
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError, TorshError, UnsupportedError
from torsh_dialect.settings import Settings
from torsh_dialect.target import TargetInfo
from torsh_dialect.weights import digest_of
from torsh_fx.compilation import compile_imported
from torsh_fx.compiled import CompiledModule, first_state
from torsh_fx.compiler import generator
from torsh_fx.hosted import HostedModule
from torsh_fx.importers.model import ImportedModel
from torsh_fx.packaged import (
    STATE,
    STATE_KEY,
    STATE_NAME_KEY,
    constants_resource,
    prepare_folder,
    spec_resource,
    weights_resource,
)
from torsh_fx.save import FORMAT_VERSION, VERSION_KEY, WEIGHTS_KEY, module_text, weights_in
from torsh_fx.sources import import_model
from torsh_package import GoldenCase, Package, ResourceType, TensorSignature
from torsh_package.entrypoints import CompiledObject, EntryPoint
from torsh_package.errors import ConversionError

PROGRAM = "program/model.mlir"

Sample = Callable[[EntrySpec, int], Sequence[Array]]
"""Makes inputs in order, from the signature and the number of the case."""


@dataclass(frozen=True)
class PackageOptions:
    """What goes into a package.

    Attributes:
        name: The package's name.
        version: Its semantic version.
        description: Free text.
        rtol: Tolerance of the golden cases, relative; `0` asks for the same values.
        atol: Tolerance of the golden cases, absolute.
        cases: How many golden cases there are.
    """

    name: str
    version: str = "0.1.0"
    description: str = ""
    rtol: str = "1e-4"
    atol: str = "1e-5"
    cases: int = 1


def build_package(
    imported: ImportedModel,
    targets: Sequence[TargetInfo],
    options: PackageOptions,
    sample: Sample | None = None,
    settings: Settings | None = None,
) -> Package:
    """Compile a model for some targets and put it into a package.

    Args:
        imported: The model.
        targets: Where it shall run; each must be one that this machine runs, because weights
            are prepared by the target's own code.
        options: Name, version and tolerances.
        sample: Gives inputs for golden cases; the first target's code gives the outputs.
        settings: Numerics and debugging options.

    Returns:
        The package, not saved yet.

    Raises:
        InvalidArgumentError: There is no target.
        ExecutionError: This machine cannot run code for one of the targets.
    """
    if not targets:
        raise InvalidArgumentError("a package needs at least one target")
    made = {
        target: compile_imported(imported, Context(target=target, settings=settings or Settings()))
        for target in targets
    }
    return package_of(made, options, sample)


def save_package(compiled: CompiledModule, path: str | Path) -> None:
    """Put a compiled model into a package of its target, named after the file.

    Raises:
        UnsupportedError: Host functions run a part of the model.
        OSError: The file cannot be written.
    """
    path = Path(path)
    package_of({compiled.target: compiled}, PackageOptions(name_for(path))).save(path)


def name_for(path: Path) -> str:
    """A package's name, made from that of its file."""
    return re.sub(r"[^a-z0-9._-]+|\.{2,}", "-", path.stem.lower())[:128].strip("._-") or "model"


def package_of(
    made: Mapping[TargetInfo, CompiledModule],
    options: PackageOptions,
    sample: Sample | None = None,
) -> Package:
    """A package of one model, compiled for one or more targets; see `build_package`.

    Raises:
        UnsupportedError: Host functions run a part of the model.
    """
    first = next(iter(made.values()))
    if isinstance(first, HostedModule):
        raise UnsupportedError(
            f"{', '.join(first.host_ops)} run on the host, and a package holds machine code only: "
            "save the model as .mlir"
        )
    package = Package(options.name, options.version)
    package.set_description(options.description)
    package.add_program(PROGRAM, module_text(first.module), "text/x-mlir")
    objects: list[CompiledObject] = []
    weights: list[str] = []
    for target, compiled in made.items():
        objects += _add_code(package, compiled, target)
        weights += _add_weights(package, compiled, target)
    state = _add_state(package, first)
    package.add_entrypoint(
        EntryPoint(
            "main",
            PROGRAM,
            tuple(weights),
            tuple(TensorSignature(s.name, s.dtype, s.dims) for s in first.executable.spec.inputs),
            tuple(TensorSignature(s.name, s.dtype, s.dims) for s in first.executable.spec.outputs),
            tuple(objects),
            tuple(_cases(package, first, sample, options)),
            (*((f"spec.{t.name}", spec_resource(t.name)) for t in made), *state),
        )
    )
    return package


def _add_code(
    package: Package, compiled: CompiledModule, target: TargetInfo
) -> list[CompiledObject]:
    main, prepare = lower_module(compiled.optimised, target)
    units = [host_unit(target), *main.units]
    _add_spec(package, spec_resource(target.name), main)
    package.add_resource(constants_resource(target.name), json.dumps(sorted(main.constants)),
                         ResourceType.Metadata, media_type="application/json")  # fmt: skip
    if prepare is not None:
        _add_preparation(package, prepare, target)
    features = [f for f in target.features.split(",") if f]
    return [
        package.add_object(
            f"aot/{target.name}/{number:04}.o",
            code,
            triple=target.triple,
            cpu=target.cpu,
            features=features,
            abi=ABI_VERSION,
        )
        for number, code in enumerate(generator(False, True).compile(units))
    ]


def add_onnx_program(path: Path, package: Package) -> None:
    """Add the program of an ONNX model as MLIR text: `torsh_package.converters`.

    Its weights are those of the resource `weights`, by name, and of `program/constants` what the
    model holds besides. Nothing is compiled; `save_package` does that.

    Raises:
        ConversionError: The model cannot be imported; tells all that is missing.
    """
    try:
        imported = import_model(path, Context())
    except TorshError as error:
        raise ConversionError(str(error)[:4000], entry=path.name) from error
    module = imported.module.clone()
    names = [op.id.data for op in weights_in(module)]
    for op in weights_in(module):
        op.properties["digest"] = text(digest_of(imported.weights[op.id.data]))
    module.attributes[VERSION_KEY] = text(FORMAT_VERSION)
    if names:
        module.attributes[WEIGHTS_KEY] = text("model.safetensors")
    package.add_program(PROGRAM, module_text(module), "text/x-mlir")
    there = set(package.get_resource("weights").rows if package.has_resource("weights") else ())
    others = {name: imported.weights[name] for name in sorted(set(names)) if name not in there}
    if others:
        package.add_resource("program/constants", others, ResourceType.ModelWeights)


def _add_spec(package: Package, name: str, lowered: Lowered) -> None:
    text = lowered.spec.to_json()
    package.add_resource(name, text, ResourceType.Metadata, media_type="application/json")


def _add_preparation(package: Package, prepare: Lowered, target: TargetInfo) -> None:
    """What makes a target's weights of the model's own: `PackagedModel.load_weights` runs it."""
    folder = prepare_folder(target.name)
    _add_spec(package, f"{folder}program.json", prepare)
    for number, code in enumerate(generator(False, True).compile(prepare.units)):
        package.add_resource(f"{folder}{number:04}.o", code, ResourceType.Binary,
                             media_type="application/x-object")  # fmt: skip
    if prepare.constants:
        package.add_resource(f"{folder}constants", prepare.constants, ResourceType.Data)


def _add_weights(package: Package, compiled: CompiledModule, target: TargetInfo) -> list[str]:
    table = compiled.program.weights
    specs = compiled.program.spec.weights
    if table is None or not specs:
        return []
    arrays = {spec.name: array for spec, array in zip(specs, table.arrays, strict=True)}
    package.add_resource(weights_resource(target.name), arrays, ResourceType.ModelWeights)
    return [weights_resource(target.name)]


def _add_state(package: Package, compiled: CompiledModule) -> list[tuple[str, str]]:
    """Store the first values of the state; which output follows which input, as metadata."""
    states = compiled.states
    if not states:
        return []
    inputs, outputs = compiled.interface.inputs, compiled.interface.outputs
    names = [inputs[one.input] for one in states]
    first = first_state(compiled.interface, compiled.weights)
    arrays = dict(zip(names, first, strict=True))
    package.add_resource(STATE, arrays, ResourceType.ModelWeights)
    pairs = list(zip(names, states, strict=True))
    following = [(f"{STATE_KEY}{name}", outputs[one.output]) for name, one in pairs]
    return [*following, *((f"{STATE_NAME_KEY}{name}", one.name) for name, one in pairs)]


def _cases(
    package: Package, compiled: CompiledModule, sample: Sample | None, options: PackageOptions
) -> Iterator[GoldenCase]:
    for number in range(options.cases if sample is not None else 0):
        assert sample is not None
        inputs = [np.asarray(x, order="C") for x in sample(compiled.executable.spec, number)]
        outputs = compiled.run(inputs)
        case = GoldenCase(f"golden/{number}.in", f"golden/{number}.out", options.rtol, options.atol)
        stored = dict(zip(compiled.interface.inputs, inputs, strict=True))
        package.add_resource(case.inputs, stored, ResourceType.Data)
        named = dict(zip(compiled.interface.outputs, outputs, strict=True))
        package.add_resource(case.outputs, named, ResourceType.Data)
        yield case
