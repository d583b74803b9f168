"""Shows, resolves, locks and checks the dependencies of a package. Never uses the network.

torsh-package deps resolve m.torshpkg --index packages

list     what the package needs
resolve  choose versions from a folder of packages and the installed distributions
lock     the same, and store the choice in the package as dependencies/lock.json
check    whether lock file, package files and installed distributions satisfy the package
"""

import argparse

from torsh_package.canonical_json import JsonValue
from torsh_package.dependencies import (
    LOCK_DOCUMENT,
    Candidate,
    DependencySpec,
    FolderIndex,
    ListIndex,
    LockFile,
    check_available,
    installed_index,
    resolve,
)
from torsh_package.package import Package

from ..arguments import platform_name
from ..tables import table
from . import FAILED, OK, Output, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("action", choices=("list", "resolve", "lock", "check"))
    parser.add_argument("package")
    parser.add_argument("--index", metavar="FOLDER", help="folder with *.torshpkg files")
    parser.add_argument("--enable", action="append", default=[], metavar="NAME", help="an optional")
    parser.add_argument(
        "--platform", type=platform_name, help="os-machine to resolve for, such as linux-x86_64"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="for lock: write there, not in place"
    )
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Does what the action says."""
    with open_package(args.package, args) as package:
        match args.action:
            case "list":
                return _list(package, out)
            case "check":
                return _check(package, args, out)
            case _:
                return _resolve(package, args, out)


def _list(package: Package, out: Output) -> int:
    rows: list[JsonValue] = [spec.to_json() for spec in package.dependencies]
    lines = [
        (spec.kind, spec.name, spec.version_req or "*", "optional" if spec.optional else "required")
        for spec in package.dependencies
    ]
    out.result({"dependencies": rows}, table(lines) or "no dependencies")
    return OK


class _Both:
    """Packages from a folder, distributions from this interpreter."""

    def __init__(self, specs: tuple[DependencySpec, ...], folder: FolderIndex | None):
        self._packages = folder
        self._installed = installed_index(spec.name for spec in specs if spec.kind == "pip")

    def candidates(self, key: str) -> list[Candidate]:
        """All versions of the package with this key."""
        source: ListIndex | None = self._installed if key.startswith("pip:") else self._packages
        return list(source.candidates(key)) if source is not None else []


def _resolve(package: Package, args: argparse.Namespace, out: Output) -> int:
    specs = package.dependencies
    index = _Both(specs, FolderIndex(args.index) if args.index else None)
    known = _lock_of(package)
    resolution = resolve(
        specs,
        index,
        enable=args.enable,
        platform=args.platform,
        locked=known.versions() if known is not None else None,
    )
    lock = LockFile.of(specs, resolution, args.platform)
    if args.action == "lock":
        package.set_document(LOCK_DOCUMENT, lock.to_bytes())
        if package.signatures is not None:
            package.signatures = None
            out.note("the signatures did not cover the lock file and were removed; sign anew")
        package.save(args.output or args.package)
    rows: list[JsonValue] = [lock.packages[key].to_json() for key in sorted(lock.packages)]
    lines = [(p.kind, p.name, p.version, p.digest[:16]) for p in lock.packages.values()]
    lines += [("-", spec.name, "left out", reason) for spec, reason in resolution.absent]
    out.result({"packages": rows}, table(lines) or "nothing is needed")
    return OK


def _lock_of(package: Package) -> LockFile | None:
    if LOCK_DOCUMENT not in package.list_documents():
        return None
    return LockFile.parse(bytes(package.get_document(LOCK_DOCUMENT).data))


def _check(package: Package, args: argparse.Namespace, out: Output) -> int:
    folder = FolderIndex(args.index) if args.index else None
    found = check_available(package.dependencies, folder)
    problems = [item.problem for item in found if item.problem is not None and item.fatal]
    notes = [item.problem for item in found if item.problem is not None and not item.fatal]
    lock = _lock_of(package)
    if lock is not None:
        problems += lock.check(package.dependencies, args.enable)
        if folder is not None:
            files = {key: path for (key, _), path in folder.files.items()}
            files |= {
                key: folder.files[key, locked.version]
                for key, locked in lock.packages.items()
                if (key, locked.version) in folder.files
            }
            of_packages = {k: p for k, p in lock.packages.items() if p.kind == "torsh"}
            only = LockFile(lock.requirements, lock.platform, of_packages)
            problems += only.check_files(files)
    lines = [f"problem: {text}" for text in problems] + [f"optional: {text}" for text in notes]
    (out.result if problems else out.done)(
        {"problems": list(problems), "optional": list(notes), "locked": lock is not None},
        "\n".join(lines) or "all dependencies are here",
    )
    return FAILED if problems else OK
