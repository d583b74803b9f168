"""Writes the pages that are made from the code: docs/dialect.md, and the table in README.md.

python docs/generate.py            write them
python docs/generate.py --check    exit with 1 where one is not current
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections import Counter
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.tables import markdown_table  # noqa: E402
from tools.torsh_verbs.limits import limits  # noqa: E402
from tools.torsh_verbs.support import Row, importer_names, short, support_rows  # noqa: E402
from torsh_dialect.declare import OPS  # noqa: E402

BEGIN, END = "<!-- support table: docs/generate.py -->", "<!-- end of support table -->"
TYPES = """## Types

A value is a builtin `tensor<...>` of an element type; what that cannot say is in its encoding.

| parameter | where it is | left out |
|---|---|---|
| element type | `f32`, `bf16`, `i64`, `ui8`, `i1`, `complex<f32>`, `!torsh.f8E4M3FN` | never |
| extents | numbers in the shape; `?` where one is symbolic | never |
| symbolic extents | `#torsh.dims<[n, 3]>`, or `dims` of `#torsh.tensor` | all are numbers |
| layout | `layout` of `#torsh.tensor`: the axes in memory, outermost first | row-major |
| device | `device` of `#torsh.tensor`: `cpu`, `cuda` (any GPU), `cuda:N` | that of the program |

```mlir
func.func @main(%x: tensor<?x3xf32, #torsh.tensor<dims = [n, 3], layout = [1, 0]>>)
    -> tensor<?x3xf32, #torsh.tensor<dims = [n, 3], device = "cuda:0">> {
  %y = torsh.exp %x : (tensor<?x3xf32, #torsh.tensor<dims = [n, 3], layout = [1, 0]>>)
    -> tensor<?x3xf32, #torsh.dims<[n, 3]>>
  %g = torsh.to_device %y {device = "cuda:0"} : (tensor<?x3xf32, #torsh.dims<[n, 3]>>)
    -> tensor<?x3xf32, #torsh.tensor<dims = [n, 3], device = "cuda:0">>
  func.return %g : tensor<?x3xf32, #torsh.tensor<dims = [n, 3], device = "cuda:0">>
}
```

There is one way to write each type: what is the default is left out, an encoding that says nothing
is refused, and so are a layout that is no order of the axes and a device of another name.

*Extents* are expressions over named symbols; equal names are equal sizes, bounds are the function's
attribute `torsh.symbols`. `infer` of an op is the only rule for element types and extents.

*Layout* says how a value is stored where it enters or leaves a program; it changes no value. Ops
compute on logical axes and their results are row-major; `torsh.to_layout` stores otherwise.
`materialize-layouts` turns an argument or result that has a layout into what lies in memory and a
transpose, which `choose-layout` moves to where it meets others. Callers give and get arrays with
logical axes and any strides: those that lie as the type says are not copied. Inputs of torch models
have the layout of the example (`torch.channels_last` is `[0, 2, 3, 1]`), and results then have
torch's.

*Device* spreads from operands to results in one place (`placement.py`); operands on two devices are
an error that names both. A scalar on the CPU goes with tensors anywhere. `torsh.to_device` moves a
value. A program for a CPU has no device in its types after `place-on-host`, which refuses values on
a GPU. `to-gpu` leaves what is on `cpu` to the host, launches the rest, and turns `torsh.to_device`
into copies. Torch models name devices where some value is on a GPU.

The types `!torsh.seq<T>`, `!torsh.opt<T>` and `tensor<2x!torsh.string>` are values of the host; a
value that has no type yet is `tensor<*x!torsh.any>`.
"""
CONSTRAINT = re.compile(r"\s(C\d+): ")
HEAD = """# The torsh dialect

Every op, by kind; written by `docs/generate.py` from the docstrings of `torsh_dialect/ops`.

*Runs by* says which part of `lowering/` makes native code of the op: `elements` (one element at a
time, fused with its neighbours and vectorised), `whole kernel`, `template`, `expansion` into other
ops, `native control flow`; `host function` is Python beside native code (sequences, optional
values, strings); `-` means that it cannot be compiled yet. *Spelled* names convert one to
one; the importers read more (`torsh ops --frontend onnx`). *Elements* are the types that an op's
data may have; *dynamic* ops take symbols for all their extents. The op's inference says both.
"""


def dialect_page() -> str:
    """docs/dialect.md."""
    classes = {cls.name.removeprefix("torsh."): cls for cls in OPS}
    parts = [HEAD, TYPES]
    kind = ""
    for row in support_rows():
        if row.kind != kind:
            kind = row.kind
            parts.append(f"## {kind}\n")
        parts.append(_section(row, inspect.getdoc(classes[row.name]) or ""))
    return "\n".join(parts)


def _section(row: Row, text: str) -> str:
    lines = text.split("\n")
    start = next((n for n, line in enumerate(lines) if line.lstrip().startswith("%")), len(lines))
    prose = " ".join(" ".join(lines[:start]).split())
    prose = CONSTRAINT.sub(r"\n- \1: ", f" {prose}").strip()
    prose = prose.replace("<", "&lt;").replace("*", r"\*")
    notes = [f"runs by: {row.lowering}"]
    if row.dtypes:
        notes.append(f"elements: {short(row.dtypes)}")
    if row.dynamic:
        notes.append("dynamic")
    if row.spelled:
        notes.append(f"spelled: {', '.join(row.spelled)}")
    example = dedent("\n".join(lines[start:]))
    shown = f"\n```mlir\n{example}\n```\n" if example else ""
    return f"### {row.name}\n\n{prose}\n\n*{'; '.join(notes)}*\n{shown}"


def support_table() -> str:
    """The table of README.md: ops by kind, and what importers read."""
    rows = support_rows()
    cells = [["kind", "ops", "compiled", "dynamic", "names"]]
    for kind in sorted({row.kind for row in rows}):
        own = [row for row in rows if row.kind == kind]
        native = sum(row.lowering != "-" for row in own)
        names = ", ".join(row.name if row.lowering != "-" else f"*{row.name}*" for row in own)
        moving = sum(row.dynamic is not False for row in own)
        cells.append([kind, str(len(own)), str(native), str(moving), names])
    native = sum(row.lowering != "-" for row in rows)
    moving = sum(row.dynamic is not False for row in rows)
    cells.append(["**all**", str(len(rows)), str(native), str(moving), ""])
    imported = ", ".join(
        f"{len(names)} of {framework}" for framework, names in importer_names().items()
    )
    note = f"Operators that importers read: {imported}. Ops in *italics* cannot be compiled yet."
    parts = [markdown_table(cells), note, _elements_table(rows), _limits_table()]
    return "\n\n".join([*parts, "`torsh ops` prints all of it, op by op; `--json` for programs."])


def _elements_table(rows: list[Row]) -> str:
    """How many ops take which element types for their data."""
    counts = Counter(short(row.dtypes) for row in rows if row.dtypes)
    body = [[elements, str(count)] for elements, count in counts.most_common()]
    return markdown_table([["element types of the data", "ops"], *body])


def _limits_table() -> str:
    return markdown_table(
        [["limit", "value", "beyond"], *([x.of, x.value, x.beyond] for x in limits())]
    )


def readme_page() -> str:
    """README.md with the current table."""
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{support_table()}\n{END}{after}"


PAGES = {"docs/dialect.md": dialect_page, "README.md": readme_page}


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        path, page = ROOT / name, make()
        if path.exists() and path.read_text() == page:
            continue
        if check:
            stale = 1
            print(f"{name} is not current: run python docs/generate.py", file=sys.stderr)
        else:
            path.write_text(page)
            print(f"wrote {name}")
    return stale


if __name__ == "__main__":
    sys.exit(main())
