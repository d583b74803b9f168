"""The code table of a package: policy, modules with digests, externs with versions, mocks."""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.errors import CodePolicyError
from torsh_package.manifest import ResourceType
from torsh_package.requirement_syntax import DependencySpec
from torsh_package.schema import Fields

from .capture import Capture, SourceModule, collect
from .policy import CodePolicy, Rule

if TYPE_CHECKING:
    from torsh_package.package import Package

_PREFIX = "code/"
_MANY = 65_536


@dataclass(frozen=True)
class CodeTable:
    """What `Package.code` says.

    Args:
        policy: Rules under which the code was captured and is run.
        modules: Module name to (resource name, whether it is a package, SHA-256 of the source).
        externs: Top-level extern module to the version it was captured with, or None.
        mocks: Mocked modules.
    """

    policy: CodePolicy
    modules: dict[str, tuple[str, bool, str]]
    externs: dict[str, str | None]
    mocks: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """The JSON form."""
        modules: list[JsonValue] = [
            {"name": name, "resource": resource, "package": is_package, "sha256": digest}
            for name, (resource, is_package, digest) in sorted(self.modules.items())
        ]
        externs: list[JsonValue] = [
            {"name": name, "version": version} for name, version in sorted(self.externs.items())
        ]
        return {
            "policy": self.policy.to_json(),
            "modules": modules,
            "externs": externs,
            "mocks": list(sorted(self.mocks)),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> "CodeTable":
        """Reads the JSON form; `ManifestError` when it is malformed."""
        fields = Fields(value, "manifest.code")
        policy = CodePolicy(fields.items("policy", _MANY, Rule.from_json))
        modules = fields.items("modules", _MANY, _module_row)
        externs = fields.items("externs", _MANY, _extern_row)
        mocks = fields.strings("mocks", _MANY)
        fields.end()
        return cls(policy, dict(modules), dict(externs), tuple(mocks))


def _module_row(fields: Fields) -> tuple[str, tuple[str, bool, str]]:
    row = (
        fields.string("name"),
        (fields.string("resource"), fields.boolean("package"), fields.string("sha256")),
    )
    fields.end()
    return row


def _extern_row(fields: Fields) -> tuple[str, str | None]:
    row = (fields.string("name"), fields.optional_string("version"))
    fields.end()
    return row


def code_table(package: "Package") -> CodeTable:
    """The code table of a package; empty when it has none.

    Sources that are there without a table (converted torch.package archives) are listed with the
    policy that interns exactly them.
    """
    if package.code is not None:
        return CodeTable.from_json(package.code)
    modules: dict[str, tuple[str, bool, str]] = {}
    for resource in package.resources():
        path = resource.name.removeprefix(_PREFIX)
        if resource.type is not ResourceType.Source or not path.endswith(".py"):
            continue
        is_package = path.endswith("/__init__.py")
        name = path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
        if all(part.isidentifier() for part in name.split(".")):
            digest = hashlib.sha256(bytes(resource.data)).hexdigest()
            modules[name] = (resource.name, is_package, digest)
    policy = CodePolicy().intern(sorted(modules)) if modules else CodePolicy()
    return CodeTable(policy, modules, {}, ())


def sources_of(package: "Package") -> dict[str, SourceModule]:
    """The sources that the code table names, checked against their digests.

    Raises:
        CodePolicyError: when a source is missing or is not the one that was captured.
    """
    found: dict[str, SourceModule] = {}
    for name, (resource, is_package, digest) in code_table(package).modules.items():
        if not package.has_resource(resource):
            raise CodePolicyError(f"its resource {resource[:80]!r} is missing", entry=name)
        source = SourceModule(name, package.get_resource(resource).text(), is_package)
        if source.sha256 != digest:
            raise CodePolicyError("the source is not the one that was captured", entry=name)
        found[name] = source
    return found


def add_code(
    package: "Package",
    modules: str | Sequence[str],
    roots: Iterable[str | Path],
    policy: CodePolicy,
) -> Capture:
    """Capture `modules` and everything that they import into `package`.

    Extern modules outside the standard library become optional-free pip dependencies, pinned to
    be at least the version that is installed here.

    Args:
        package: Gets a source resource per interned module, and the code table.
        modules: Module names to begin with.
        roots: Source folders; nothing in them is imported or executed.
        policy: What to do with each module.

    Raises:
        CodePolicyError: listing every module that is denied, unknown, missing, or mocked but used.
    """
    capture = collect(modules, roots, policy)
    present = code_table(package) if package.code is not None else None
    table = CodeTable(
        CodePolicy((*(present.policy.rules if present else ()), *policy.rules)),
        dict(present.modules) if present else {},
        {**(present.externs if present else {}), **capture.externs},
        tuple(sorted({*(present.mocks if present else ()), *capture.mocks})),
    )
    for name, module in sorted(capture.modules.items()):
        known = table.modules.get(name)
        if known is not None and known[2] != module.sha256:
            raise CodePolicyError("another source of this name is in the package", entry=name)
        if known is None:
            resource = package.add_source_file(module.path, module.source)
            table.modules[name] = (resource.name, module.is_package, module.sha256)
    _require_externs(package, capture)
    package.code = table.to_json()
    return capture


def _require_externs(package: "Package", capture: Capture) -> None:
    known = {spec.name for spec in package.dependencies}
    for top, version in capture.externs.items():
        if top in sys.stdlib_module_names or top in known or version is None:
            continue
        release = version.partition("+")[0]
        package.add_dependency(DependencySpec(top, f">={release}", kind="pip"))


def add_module(
    package: "Package",
    name: str,
    module: object,
    *,
    include_source: bool = True,
    policy: CodePolicy | None = None,
) -> None:
    """Add a model: its weights as the resource `name`, and the sources that define its classes.

    Args:
        package: Where to.
        name: Resource name for the weights of an object with `state_dict()`; a Python module
            has none.
        module: A `torch.nn.Module` (or anything with `state_dict()`), or a Python module.
        include_source: Whether to capture sources.
        policy: What to do with each module; by default the packages of the classes are interned
            (all but torch's own) and everything else that is installed is extern.

    Raises:
        CodePolicyError: when a class has no source file, or the scan finds a problem.
        ConversionError: when a tensor cannot be stored.
    """
    from torsh_package.convert.exporter import HasStateDict, module_tensors

    if not isinstance(module, ModuleType):
        if not hasattr(module, "state_dict"):
            raise CodePolicyError(f"{type(module).__name__} has no state_dict() and is no module")
        tensors = module_tensors(cast(HasStateDict, module))
        package.add_resource(name, tensors, ResourceType.ModelWeights)
    if not include_source:
        return
    entries = sorted(_defining_modules(module))
    if not entries:
        return  # made of torch's own classes only
    roots = sorted({_root_of(entry) for entry in entries})
    if policy is None:
        tops = sorted({entry.split(".", 1)[0] for entry in entries})
        policy = CodePolicy().intern([f"{top}.**" for top in tops]).extern(_installed(entries))
    add_code(package, entries, roots, policy)


def _defining_modules(module: object) -> set[str]:
    """Modules of the classes of `module` and all modules inside it, but torch's own."""
    if isinstance(module, ModuleType):
        return {module.__name__}
    children = getattr(module, "modules", None)
    parts = cast("Iterable[object]", children()) if callable(children) else [module]
    names = {type(part).__module__ for part in parts}
    return {name for name in names if name.split(".", 1)[0] != "torch"}


def _root_of(name: str) -> str:
    """The source folder from which the loaded module `name` came."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if name == "__main__" or not isinstance(file, str) or not file.endswith(".py"):
        raise CodePolicyError(
            "the class has no source file that others can import; move it into a module, "
            "or pass include_source=False",
            entry=name,
        )
    path = Path(file).resolve()
    path = path.parent if path.name == "__init__.py" else path.with_suffix("")
    for _ in name.split("."):
        path = path.parent
    return str(path)


def _installed(entries: Sequence[str]) -> list[str]:
    """Patterns for every installed top-level package that is not being interned."""
    from importlib import metadata

    tops = {entry.split(".", 1)[0] for entry in entries}
    names = {top for top in metadata.packages_distributions() if top.isidentifier()} - tops
    return [f"{top}.**" for top in sorted(names)] or ["torch.**"]
