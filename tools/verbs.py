"""A command line with verbs: each is a module, whose docstring is its help."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast


class _Version(argparse.Action):
    """Prints which version is installed, and of what, as bug reports need it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        try:
            version = importlib.metadata.version("torsh")
        except importlib.metadata.PackageNotFoundError:
            version = "(a checkout that is not installed)"
        print(f"{parser.prog} {version}, Python {python}")
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add `--version`."""
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")


def shared_options() -> argparse.ArgumentParser:
    """Options of every verb. `--quiet` has one meaning: the answer to what was asked is printed,
    and errors are; progress, remarks, and that something was done or is in order are not.
    """
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON value; of an error too")
    shared.add_argument(
        "--quiet",
        action="store_true",
        help="print only what was asked for, and errors: no progress, remarks, confirmations",
    )
    shared.add_argument("--debug", action="store_true", help="show where an error came from")
    return shared


class _Mixed(argparse.ArgumentParser):
    """Takes options between the values of an argument too, as `p -o folder name` has them."""

    _inside = False

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  (overloads)
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        if self._inside:  # the two passes of the line below
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


class Verb(Protocol):
    """What a verb's module has."""

    __doc__: str | None

    run: Callable[..., int]
    """Does it; returns the exit code."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's arguments."""
        ...


def verb_parser(
    program: str,
    about: str | None,
    shared: argparse.ArgumentParser,
    package: str,
    verbs: Iterable[str],
    only: str | None = None,
) -> argparse.ArgumentParser:
    """The parser of a command line with verbs; `run` of the result is the verb's.

    Args:
        program: Name of the command.
        about: Its help.
        shared: Options of every verb.
        package: Where the verbs' modules are; `-` in a verb is `_` in its module's name.
        verbs: All verbs, in the order of the help.
        only: If it is a verb, just that one is loaded, which is faster.
    """
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=program, description=about, formatter_class=plain)
    add_version(parser)
    kind = cast("type[argparse.ArgumentParser]", _Mixed)
    choices = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=kind)
    names = list(verbs)
    for name in [only] if only in names else names:
        module = f"{package}.{name.replace('-', '_')}"
        verb = cast("Verb", importlib.import_module(module))
        text = (verb.__doc__ or "").strip()
        sub = choices.add_parser(
            name,
            parents=[shared],
            help=text.partition("\n")[0],
            description=text,
            formatter_class=plain,
        )
        verb.configure(sub)
        sub.set_defaults(run=verb.run)
    return parser
