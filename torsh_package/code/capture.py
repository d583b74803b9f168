"""Collects the sources that a set of modules needs, by static scan, under a policy.

Imports are followed through the files of given source folders; nothing is imported or executed.
Everything that is wrong is reported at once, each with the chain of modules that leads to it.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from torsh_package.errors import CodePolicyError

from .imports import MAX_SOURCE, Import, SourceScan, scan_imports
from .policy import Action, CodePolicy

_MAX_MODULES = 20_000
_MAX_PROBLEMS = 50


@dataclass(frozen=True)
class SourceModule:
    """A module whose source is in the package.

    Args:
        name: Absolute dotted name.
        source: Python text.
        is_package: Whether it is an `__init__.py`.
    """

    name: str
    source: str
    is_package: bool

    @property
    def path(self) -> str:
        """Its path below `code/`: `a/b.py` or `a/b/__init__.py`."""
        base = self.name.replace(".", "/")
        return f"{base}/__init__.py" if self.is_package else f"{base}.py"

    @property
    def sha256(self) -> str:
        """Digest of the source, hex."""
        return hashlib.sha256(self.source.encode()).hexdigest()


class SourceFolders:
    """Finds modules as files below source folders, without importing anything.

    Args:
        roots: Folders in order, as on `sys.path`.
    """

    def __init__(self, roots: Iterable[str | Path]):
        self._roots = [Path(root) for root in roots]

    def find(self, module: str) -> SourceModule | None:
        """The source of `module`; None when no folder has it."""
        if not all(part.isidentifier() for part in module.split(".")):
            return None
        relative = Path(*module.split("."))
        for root in self._roots:
            for path, is_package in (
                (root / relative / "__init__.py", True),
                (root / relative.with_suffix(".py"), False),
            ):
                if path.is_file():
                    return SourceModule(module, _read(path), is_package)
            if (root / relative).is_dir() and any((root / relative).glob("*.py")):
                return SourceModule(module, "", True)  # a namespace package
        return None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_SOURCE:
            raise CodePolicyError(f"source is over {MAX_SOURCE} bytes", entry=str(path))
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CodePolicyError(f"source cannot be read: {error}", entry=str(path)) from error


@dataclass
class Capture:
    """Sources and outer needs of a set of modules.

    Args:
        modules: Interned modules by name.
        externs: Top-level extern names to the installed version of their distribution, or None.
        mocks: Mocked modules.
        imported_by: Module to those that import it.
        computed: Interned module to the lines of imports that no scan can follow.
    """

    modules: dict[str, SourceModule] = field(default_factory=dict[str, SourceModule])
    externs: dict[str, str | None] = field(default_factory=dict[str, str | None])
    mocks: set[str] = field(default_factory=set[str])
    imported_by: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    computed: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    def chain(self, module: str) -> list[str]:
        """How `module` is reached: from an entry module down to it."""
        path, seen = [module], {module}
        while True:
            above = sorted(self.imported_by.get(path[0], set()) - seen)
            if not above:
                return path
            path.insert(0, above[0])
            seen.add(above[0])


class _Collector:
    def __init__(self, folders: SourceFolders, policy: CodePolicy):
        self._folders = folders
        self._policy = policy
        self._queue: deque[str] = deque()
        self._seen: set[str] = set()
        self._scans: dict[str, SourceScan] = {}
        self._problems: list[tuple[str, str]] = []
        self.found = Capture()

    def run(self, entries: Sequence[str]) -> Capture:
        for entry in entries:
            self._reach(entry, None)
        while self._queue:
            self._intern(self._queue.popleft())
        self._check_mocks()
        self._check_empty()
        if self._problems:
            raise CodePolicyError(self._report())
        self.found.externs = {
            top: extern_version(top) for top in sorted({m.split(".")[0] for m in self._outer()})
        }
        return self.found

    def _outer(self) -> list[str]:
        return [m for m in self._seen if self._policy.action(m) is Action.EXTERN]

    def _reach(self, module: str, importer: str | None) -> None:
        """Note `module` and the packages that it lies in."""
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            if importer is not None and name != importer:
                self.found.imported_by.setdefault(name, set()).add(importer)
            if name in self._seen:
                continue
            self._seen.add(name)
            match self._policy.action(name):
                case Action.INTERN:
                    self._queue.append(name)
                case Action.MOCK:
                    self.found.mocks.add(name)
                case Action.DENY:
                    self._problems.append((name, "is denied by the policy"))
                case None if end == len(parts):
                    self._problems.append((name, "matches no rule; intern, extern or mock it"))
                case _:
                    pass

    def _intern(self, name: str) -> None:
        source = self._folders.find(name)
        if source is None:
            self._problems.append((name, "is to be interned, but no source folder has it"))
            return
        if len(self.found.modules) >= _MAX_MODULES:
            raise CodePolicyError(f"over {_MAX_MODULES} modules are to be interned")
        scan = scan_imports(source.source, name, is_package=source.is_package)
        self.found.modules[name] = source
        self._scans[name] = scan
        if scan.computed:
            self.found.computed[name] = scan.computed
        for found in scan.imports:
            self._follow(found, name)

    def _follow(self, found: Import, importer: str) -> None:
        if not found.module:
            return
        self._reach(found.module, importer)
        for name in found.names:
            child = f"{found.module}.{name}"
            if name == "*":
                continue
            action = self._policy.action(child)
            explicit = self._policy.rule_for(child)
            is_module = action is Action.INTERN and self._folders.find(child) is not None
            is_named = explicit is not None and child in explicit.modules.include
            if is_module or (is_named and action is not Action.INTERN):
                self._reach(child, importer)

    def _check_mocks(self) -> None:
        """A mock may be imported, never needed: not while its importer is being imported."""
        for name, scan in self._scans.items():
            for local, line in scan.early.items():
                target = scan.bound[local]
                mocked = {m for m in self.found.mocks if target == m or target.startswith(m + ".")}
                if mocked:
                    self._problems.append(
                        (name, f"uses the mocked module {min(mocked)} at line {line}")
                    )

    def _check_empty(self) -> None:
        for rule in self._policy.rules:
            if not rule.allow_empty and not any(map(rule.modules.matches, self._seen)):
                patterns = ", ".join(rule.modules.include)
                self._problems.append((patterns, f"{rule.action} matched no module"))

    def _report(self) -> str:
        lines = [f"{len(self._problems)} problem(s) with the code:"]
        for name, problem in self._problems[:_MAX_PROBLEMS]:
            chain = " -> ".join(self.found.chain(name))
            lines.append(
                f"  {name} {problem}" + (f" (reached by {chain})" if "->" in chain else "")
            )
        return "\n".join(lines)


def collect(
    entries: str | Sequence[str],
    roots: Iterable[str | Path],
    policy: CodePolicy,
) -> Capture:
    """Collect `entries` and everything that they import.

    Args:
        entries: Module names to begin with.
        roots: Source folders.
        policy: What to do with each module.

    Raises:
        CodePolicyError: listing every module that is denied, unknown, missing, or mocked but used.
    """
    names = [entries] if isinstance(entries, str) else list(entries)
    return _Collector(SourceFolders(roots), policy).run(names)


def extern_version(top: str) -> str | None:
    """Version of the installed distribution that provides the module `top`, if known."""
    for name in (top, *_distributions().get(top, ())):
        try:
            return metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return None


def _distributions() -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()
