"""List the operators that the compiler knows: element types, dynamic shapes, other names.

    torsh ops
    torsh ops --kind Reduce
    torsh ops --frontend onnx
    torsh ops --limits
    torsh ops --json

All is printed from the registry. `elements` are the types that an op's data may have, `dynamic`
says whether all its extents may be symbols; both are asked of the op's own inference. `spelled`
names are those that convert one to one; `--frontend` lists all operators of a framework.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from torsh_dialect.errors import InvalidArgumentError

from ..tables import markdown_table, table
from .console import OK
from .limits import limits
from .support import Row, dynamic_word, kinds, operators, short, support_rows

FRONTENDS = ("onnx", "torch")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--kind", choices=kinds(), help="only ops of that kind")
    what.add_argument("--frontend", choices=FRONTENDS, help="the operators that its importer reads")
    what.add_argument("--limits", action="store_true", help="the compiler's limits")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    if args.json and args.markdown:
        raise InvalidArgumentError("--json, --markdown: the list has one form")
    if args.limits:
        found = limits()
        cells = [["limit", "value", "beyond"], *([x.of, x.value, x.beyond] for x in found)]
    elif args.frontend:
        found = operators(args.frontend)
        cells = [["operator", "op", "elements", "dynamic"]]
        cells += [[x.name, x.op or "by a converter", x.elements, x.dynamic] for x in found]
    else:
        found = [row for row in support_rows() if args.kind in (None, row.kind)]
        cells = op_cells(found)
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        print(markdown_table(cells) if args.markdown else table(cells))
    return OK


def op_cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table of ops."""
    cells = [["op", "kind", "elements", "dynamic", "spelled", "runs by"]]
    for row in rows:
        words = (short(row.dtypes), dynamic_word(row.dynamic), ", ".join(row.spelled))
        cells.append([row.name, row.kind, *words, row.lowering])
    return cells
