"""The verbs of `torsh-package`: one module each, named after the verb.

A verb module has a docstring (its help), `configure(parser)` and `run(args, out) -> exit code`.
"""

import argparse
import getpass
import json
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import InvalidArgumentError, PackageEncryptedError, StorageError
from torsh_package.observing import Noted
from torsh_package.package import Package
from torsh_package.reading import Loaded, LoadOptions, read_archive
from torsh_package.small_files import read_file

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

OK, FAILED, USAGE = 0, 1, 2
MOST_PASSWORD = 1 << 16
"""Bytes of a file with a password."""

VERBS = tuple(sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__)))
"""All verbs."""


@dataclass(frozen=True)
class Output:
    """Where a verb's result goes: text for people, or one JSON value for scripts.

    `noted` is what an audit log (`--audit`) gets besides the verb and its outcome.
    """

    as_json: bool = False
    quiet: bool = False
    noted: Noted = field(default_factory=lambda: Noted(""))

    def result(self, value: JsonObject, text: str | Callable[[], str]) -> None:
        """Prints what was asked for, to standard output."""
        if self.as_json:
            print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
        else:
            print(text if isinstance(text, str) else text())

    def done(self, value: JsonObject, text: str | Callable[[], str]) -> None:
        """Confirms that something was done or is in order: as `result`, not with --quiet."""
        if self.as_json or not self.quiet:
            self.result(value, text)

    def note(self, text: str) -> None:
        """Prints a remark, to standard error."""
        if not self.quiet:
            print(text, file=sys.stderr)


class ProgressBar:
    """A progress bar on standard error, as `progress` of `save` and others; on terminals only."""

    def __init__(self, out: Output, what: str):
        self._show = sys.stderr.isatty() and not out.quiet
        self._what = what
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._show:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Says that `done` of `total` are through: bytes of a resource, tensors, ..."""
        if self._bar is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(f"{self._what} {name}", total=total)
        self._bar.update(self._tasks[name], completed=done)


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is needed to open a package: mode, trust, keys."""
    group = parser.add_argument_group("opening")
    group.add_argument("--relaxed", action="store_true", help="accept archives zipped again")
    group.add_argument("--trust", metavar="STORE", help="trust store that must accept the package")
    group.add_argument("--password-file", metavar="FILE", help="first line opens the package")
    group.add_argument("--identity", metavar="FILE", action="append", help="private X25519 key")


def open_package(path: str, args: argparse.Namespace, *, lazy: bool = False) -> Package:
    """Loads a package as the arguments of `add_load_arguments` say.

    On a terminal the password of an encrypted package is asked for; elsewhere it is an error.
    """
    return Package.from_loaded(read(path, load_options(args, lazy=lazy)))


def read(path: str, options: LoadOptions) -> Loaded:
    """Reads an archive, asking for a password where that can help."""
    try:
        return read_archive(path, options)
    except PackageEncryptedError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise PackageEncryptedError(
                "is encrypted: give --password-file FILE or --identity KEY", entry=path
            ) from error
    return read_archive(path, replace(options, password=getpass.getpass(f"Password of {path}: ")))


def load_options(args: argparse.Namespace, *, lazy: bool = False) -> LoadOptions:
    """The options that the arguments stand for."""
    trust = None
    if args.trust:
        from torsh_package.trust import TrustStore

        trust = TrustStore.load(args.trust)
    identities = ()
    if args.identity:
        from torsh_package.crypto.recipients import X25519Identity

        identities = tuple(X25519Identity.load(path) for path in args.identity)
    return LoadOptions(
        mode="relaxed" if args.relaxed else "strict",
        verify="lazy" if lazy else "eager",
        trust=trust,
        password=read_password(args.password_file) if args.password_file else None,
        identities=identities,
    )


def read_password(path: str) -> str:
    """The first line of a file."""
    try:
        lines = read_file(path, MOST_PASSWORD).decode().splitlines()
    except UnicodeDecodeError as error:
        raise StorageError(f"cannot be read: {error}", entry=path) from None
    if not lines or not lines[0]:
        raise InvalidArgumentError("the first line is empty; it must hold the password", entry=path)
    return lines[0]
