"""Prints the bill of materials of a package: CycloneDX 1.6 with a model card.

torsh-package sbom m.torshpkg -o bom.json

With --embed the bill becomes part of the package, and of what its signature covers.
"""

import argparse

from torsh_package.lineage import embed_sbom, to_cyclonedx
from torsh_package.lineage.cyclonedx import SBOM_DOCUMENT, ModelCard
from torsh_package.lineage.exports import to_text
from torsh_package.small_files import replace_file

from . import OK, Output, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the bill there")
    parser.add_argument("--embed", metavar="PACKAGE", help="write a package that holds it")
    parser.add_argument("--task", default="", help="for the model card")
    parser.add_argument("--architecture", default="", help="for the model card")
    parser.add_argument("--dataset", action="append", default=[], help="for the model card")
    parser.add_argument("--limitation", action="append", default=[], help="for the model card")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Makes the bill."""
    package = open_package(args.package, args, lazy=True)
    card = ModelCard(
        task=args.task,
        architecture=args.architecture,
        datasets=args.dataset,
        limitations=args.limitation,
    )
    bill = to_cyclonedx(package, card=card)
    if args.embed:
        embed_sbom(package, bill)
        dropped, package.signatures = package.signatures is not None, None
        package.save(args.embed)
        if dropped:
            out.note("the signatures were dropped, for the package changed; sign it again")
        out.done({"output": args.embed}, f"{args.embed}: holds {SBOM_DOCUMENT}")
    elif args.output:
        replace_file(args.output, to_text(bill).encode())
        out.done({"output": args.output}, args.output)
    else:
        print(to_text(bill), end="")
    return OK
