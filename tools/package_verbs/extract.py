"""Unpacks resources into a folder, decoded, as `FOLDER/<name>`.

torsh-package extract m.torshpkg -o folder

Existing files are kept unless --overwrite is given. Symbolic links in the folder are not followed.
"""

import argparse

from torsh_package.extract import extract

from . import OK, Output, ProgressBar, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("name", nargs="*", help="resources; all by default")
    parser.add_argument("-o", "--output", metavar="FOLDER", default=".", help="default: here")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Unpacks the resources."""
    package = open_package(args.package, args, lazy=True)
    with ProgressBar(out, "extracting") as progress:
        written = extract(
            package,
            args.output,
            args.name or None,
            overwrite=args.overwrite,
            progress=progress,
        )
    paths = [str(path) for path in written]
    out.done({"files": list(paths)}, "\n".join(paths))
    return OK
