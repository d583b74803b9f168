r"""Makes a package from files.

torsh-package create m.torshpkg --name m --version 1.0.0 --weights weights=w.npz \
    --resource config=config.json:Config --source model.py --compress zstd
"""

import argparse
from pathlib import Path

from torsh_package import (
    CompressionAlgorithm,
    CompressionLevel,
    DependencySpec,
    InvalidArgumentError,
    Package,
    ResourceType,
)
from torsh_package.errors import ConversionError, StorageError

from ..arguments import license_expression
from ..tables import size_text
from . import OK, Output, ProgressBar


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("output", help="package file to write")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True, help="semantic version")
    parser.add_argument("--description", default="")
    parser.add_argument("--author", action="append", default=[])
    parser.add_argument(
        "--license", metavar="SPDX", type=license_expression, help="as `MIT OR Apache-2.0`"
    )
    parser.add_argument(
        "--metadata", metavar="KEY=VALUE", action="append", default=[], help="a fact of your own"
    )
    parser.add_argument(
        "--weights", metavar="NAME=FILE.npz", action="append", default=[], help="tensors of a file"
    )
    kinds = ", ".join(kind.value for kind in ResourceType)
    parser.add_argument(
        "--resource", metavar="NAME=FILE[:TYPE]", action="append", default=[], help=kinds
    )
    parser.add_argument("--source", metavar="FILE", action="append", default=[], help="code")
    parser.add_argument(
        "--dependency", metavar="NAME[=REQ]", action="append", default=[], help="as nn=^0.1.0"
    )
    parser.add_argument("--requirements", metavar="FILE", help="pip requirements")
    parser.add_argument(
        "--compress", choices=[a.value for a in CompressionAlgorithm], help="default: store"
    )
    parser.add_argument(
        "--level",
        choices=[v.value for v in CompressionLevel],
        default="default",
        help="of --compress (default: %(default)s)",
    )


def run(args: argparse.Namespace, out: Output) -> int:
    """Makes the package."""
    package = Package(args.name, args.version)
    package.set_description(args.description)
    package.authors = list(args.author)
    package.license = args.license
    package.metadata.update(_pair(text, "metadata") for text in args.metadata)
    if args.compress:
        package.set_compression(CompressionAlgorithm(args.compress), CompressionLevel(args.level))
    for text in args.weights:
        _add_weights(package, *_pair(text, "weights"))
    for text in args.resource:
        name, file = _pair(text, "resource")
        path, _, kind = file.rpartition(":")
        if not path:
            path, kind = file, "Data"
        package.add_file(name, path, _kind(kind))
    for file in args.source:
        package.add_source_file(Path(file).name, _text(file))
    for text in args.dependency:
        name, _, requirement = text.partition("=")
        package.add_dependency(DependencySpec(name, requirement or "*"))
    if args.requirements:
        package.add_requirements(_text(args.requirements))
    with ProgressBar(out, "writing") as progress:
        manifest = package.save(args.output, progress=progress)
    size = Path(args.output).stat().st_size
    out.done(
        {"path": args.output, "size": size, "resources": [*package.list_resources()]},
        f"{args.output}: {manifest.name} {manifest.version}, "
        f"{len(manifest.resources)} resources, {size_text(size)}",
    )
    return OK


def _pair(text: str, what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidArgumentError(f"--{what} {text!r}: write NAME=VALUE")
    return name, value


def _kind(text: str) -> ResourceType:
    try:
        return ResourceType(text)
    except ValueError:
        known = ", ".join(kind.value for kind in ResourceType)
        raise InvalidArgumentError(f"resource type {text!r} is unknown; known: {known}") from None


def _add_weights(package: Package, name: str, path: str) -> None:
    import zipfile

    import numpy

    try:
        archive = numpy.load(path, allow_pickle=False)
        if isinstance(archive, numpy.ndarray):
            raise ConversionError("is one array without a name; give an .npz file", entry=path)
        with archive:
            arrays = {key: archive[key] for key in archive.files}
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", entry=path) from None
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        why = "it holds Python objects, which are not read" if "pickle" in str(error) else error
        raise ConversionError(f"is not an .npz file: {why}"[:200], entry=path) from None
    package.add_resource(name, arrays, ResourceType.ModelWeights)


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise StorageError(f"cannot be read: {said}", entry=path) from None
