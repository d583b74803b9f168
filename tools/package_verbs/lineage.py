"""Shows where a package comes from, and records what it was made of.

torsh-package lineage m.torshpkg --format dot
torsh-package lineage m.torshpkg --record model.pt --relation converted-from -o m2.torshpkg
"""

import argparse
import hashlib
from pathlib import Path

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import StorageError
from torsh_package.lineage import (
    Artifact,
    LineageRelation,
    LineageTracker,
    package_id,
    read_lineage,
    record_origin,
    to_dot,
    to_prov,
)
from torsh_package.lineage.exports import to_text
from torsh_package.package import Package

from . import FAILED, OK, Output, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("--format", choices=["text", "json", "dot", "prov"], default="text")
    parser.add_argument("--record", metavar="FILE", help="what the package was made of")
    parser.add_argument(
        "--relation", choices=[r.value for r in LineageRelation], default="derived-from"
    )
    parser.add_argument("--creator", default="torsh-package")
    parser.add_argument("--source-url")
    parser.add_argument("--source-commit")
    parser.add_argument("--description", default="")
    parser.add_argument("-o", "--output", metavar="FILE", help="where --record writes the package")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Shows or records lineage."""
    package = open_package(args.package, args, lazy=True)
    if args.record:
        return _record(package, args, out)
    tracker = read_lineage(package)
    if tracker is None:
        out.result({"lineage": None}, f"{args.package}: holds no lineage")
        return FAILED
    if args.format == "json":
        print(to_text(tracker.to_json()), end="")
    elif args.format == "dot":
        print(to_dot(tracker), end="")
    elif args.format == "prov":
        print(to_text(to_prov(tracker)), end="")
    else:
        out.result(tracker.to_json(), _text(tracker, package))
    return OK


def _record(package: Package, args: argparse.Namespace, out: Output) -> int:
    source = Artifact(Path(args.record).name, f"sha256:{_digest(args.record)}")
    record_origin(
        package,
        source,
        LineageRelation(args.relation),
        creator=args.creator,
        source_url=args.source_url,
        source_commit=args.source_commit,
        description=args.description,
    )
    # Lineage is part of what is signed, so older signatures no longer fit.
    dropped, package.signatures = package.signatures is not None, None
    package.save(args.output or args.package)
    if dropped:
        out.note("the signatures were dropped, for the package changed; sign it again")
    value: JsonObject = {"output": args.output or args.package, "source": source.to_json()}
    out.done(value, f"{package_id(package)}: {args.relation} {source.name}")
    return OK


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", entry=path) from None


def _text(tracker: LineageTracker, package: Package) -> str:
    lines = [package_id(package)]
    for edge in tracker.edges():
        source, target = tracker.find(_named(edge.source)), tracker.find(_named(edge.target))
        if source is not None and target is not None:
            note = f" ({edge.description})" if edge.description else ""
            lines.append(f"  {target.label} {edge.relation.value} {source.label}{note}")
    info = tracker.provenance(package_id(package))
    if info is not None:
        tools = " ".join(f"{key}={value}" for key, value in sorted(info.build_environment.items()))
        lines.append(f"made by {info.creator} on {info.creation_time:%Y-%m-%d %H:%M} UTC: {tools}")
    return "\n".join(lines)


def _named(key: str) -> str:
    return key.removeprefix("name:")
