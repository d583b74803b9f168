"""Decrypts a package. Nothing is written unless all of it is authentic.

torsh-package decrypt sealed.torshpkg -o m.torshpkg --identity alice
"""

import argparse
from dataclasses import replace

from torsh_package.crypto.encryptor import decrypted
from torsh_package.package import Package

from . import OK, Output, ProgressBar, add_load_arguments, load_options, read


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Decrypts the package."""
    options = replace(load_options(args, lazy=True), keyless=False)
    package = decrypted(Package.from_loaded(read(args.package, options)))
    out.noted.subject = f"{package.name} {package.version}"
    with ProgressBar(out, "decrypting") as progress:
        package.save(args.output, progress=progress)
    out.done(
        {"output": args.output, "name": package.name, "version": package.version},
        f"{args.output}: {package.name} {package.version}, in plain text",
    )
    return OK
