"""Shows in what two packages differ: facts, resources, tables. Exit code 1 if they do.

torsh-package diff old.torshpkg new.torshpkg

Codec, encryption and signatures do not count.
"""

import argparse

from torsh_package.compare import diff

from . import FAILED, OK, Output, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("first")
    parser.add_argument("second")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Shows the differences."""
    found = diff(open_package(args.first, args), open_package(args.second, args))
    lines: list[str] = []
    for item in found:
        lines.append(item.where)
        lines += [f"  - {item.left}"] if item.left is not None else []
        lines += [f"  + {item.right}"] if item.right is not None else []
    out.result(
        {"equal": not found, "differences": [item.to_json() for item in found]},
        "\n".join(lines) or "equal",
    )
    return FAILED if found else OK
