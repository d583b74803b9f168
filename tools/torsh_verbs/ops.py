"""List the operators that the compiler knows: kind, other frameworks' names, how it runs.

    torsh ops
    torsh ops --kind Reduce
    torsh ops --markdown

The list is printed from the registry. `spelled` names are those that convert one to one; the
importers read more (`torsh ops --importers`).
"""

from __future__ import annotations

import argparse

from ..tables import markdown_table, table
from .console import OK
from .support import importer_names, kinds, support_rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--kind", choices=kinds(), help="only ops of that kind")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    parser.add_argument(
        "--importers", action="store_true", help="names that each importer reads, one a line"
    )


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    if args.importers:
        for framework, names in importer_names().items():
            print("\n".join(f"{framework}  {name}" for name in names))
        return OK
    rows = [row for row in support_rows() if args.kind in (None, row.kind)]
    cells = [["op", "kind", "spelled", "runs by"]]
    cells += [[row.name, row.kind, ", ".join(row.spelled), row.lowering] for row in rows]
    print(markdown_table(cells) if args.markdown else table(cells))
    return OK
