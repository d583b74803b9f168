"""Imports the modules of packages from memory, inside the jail. Standard library only.

As in `torch.package`, every package has its own module table and mangled names
(`<torshpkg_0>.net`), so packages with modules of one name coexist.
"""

import builtins
import importlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class MockError(NotImplementedError):
    """A mocked module was used."""


class _Mock(types.ModuleType):
    """A module that can be imported and from which anything can be taken, but nothing used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return MockedObject(f"{self.__name__}.{name}")


class MockedObject:
    """An object of a mocked module: every use of it is an error."""

    def __init__(self, path: str):
        self.__dict__["_path"] = path

    def _refuse(self, *_: object, **__: object) -> Any:
        raise MockError(
            f"{self.__dict__['_path']} was mocked when the package was made; it cannot be used"
        )

    def __getattr__(self, name: str) -> object:
        return self._refuse()

    __call__ = __getitem__ = __iter__ = __len__ = __bool__ = __setattr__ = _refuse
    __add__ = __mul__ = __enter__ = __mro_entries__ = __contains__ = _refuse


class PackageCode:
    """The modules of one package.

    Args:
        index: Number of the package, part of the mangled names.
        sources: Module name to (source, whether it is a package).
        externs: Decides by name whether a module comes from this machine.
        mocks: Names of mocked modules.
    """

    def __init__(
        self,
        index: int,
        sources: Mapping[str, tuple[str, bool]],
        externs: Callable[[str], bool],
        mocks: Sequence[str],
    ):
        self._prefix = f"<torshpkg_{index}>."
        self._sources = sources
        self._externs = externs
        self._mocks = frozenset(mocks)
        self._modules: dict[str, types.ModuleType] = {}
        self._builtins = dict(vars(builtins))
        self._builtins["__import__"] = self._import

    def import_module(self, name: str) -> types.ModuleType:
        """The module `name` of this package, or an extern or mocked one.

        Raises:
            ImportError: when the policy has no such module.
        """
        parent, _, last = name.rpartition(".")
        above = self.import_module(parent) if parent else None
        if name in self._modules:
            return self._modules[name]
        if name in self._sources:
            module = self._load(name)
        elif name in self._mocks:
            module = self._modules[name] = _Mock(self._prefix + name)
        elif self._externs(name):
            module = importlib.import_module(name)
        else:
            raise ModuleNotFoundError(
                f"{name} is neither in the package nor extern nor mocked", name=name
            )
        if above is not None and not name.startswith(tuple(self._extern_parents(parent))):
            setattr(above, last, module)
        return module

    def _extern_parents(self, parent: str) -> list[str]:
        """The parent, when it is a module of this machine that must not be changed."""
        inside = parent in self._sources or parent in self._mocks
        return [] if inside else [parent + "."]

    def _load(self, name: str) -> types.ModuleType:
        source, is_package = self._sources[name]
        module = types.ModuleType(self._prefix + name)
        module.__dict__["__builtins__"] = self._builtins
        module.__package__ = self._prefix + (name if is_package else name.rpartition(".")[0])
        if is_package:
            module.__path__ = []
        module.__file__ = f"{self._prefix}{name.replace('.', '/')}.py"
        self._modules[name] = module
        try:
            exec(compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            del self._modules[name]
            raise
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: object = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        """`__import__` for the code of this package."""
        if level:
            package = str((globals or {}).get("__package__") or "").removeprefix(self._prefix)
            parts = package.split(".") if package else []
            if level > len(parts):
                raise ImportError("attempted relative import beyond top-level package")
            base = ".".join(parts[: len(parts) - level + 1])
            name = f"{base}.{name}" if name else base
        module = self.import_module(name)
        if not fromlist:
            return module if level else self.import_module(name.partition(".")[0])
        for item in fromlist:
            child = f"{name}.{item}"
            if item != "*" and (child in self._sources or child in self._mocks):
                self.import_module(child)
            elif item != "*" and not hasattr(module, item) and self._externs(child):
                self._import_optional(child)
        return module

    def _import_optional(self, name: str) -> None:
        """`from package import name` where `name` may be a module or nothing."""
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
