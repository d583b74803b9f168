"""The IR examples in the docstrings of ops, as modules."""

from __future__ import annotations

import re

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.parser import Parser

from torsh_dialect.context import Context

EXAMPLE = re.compile(r"^\s*(%\w+(?:, %\w+)* = torsh\..*?-> .*?)$", re.M | re.S)


def example_module(op: type[Operation]) -> ModuleOp:
    """A function of the operands of an op's example, around it."""
    found = EXAMPLE.search(op.__doc__ or "")
    assert found is not None, f"{op.name} has no example"
    example = found.group(1)
    operands = re.findall(r"%\w+", re.split(r"[{:]", example.split("=", 1)[1], maxsplit=1)[0])
    kinds = example[example.rindex(" : (") + 4 : example.rindex(" -> ")]
    listed = _split(kinds.strip().removesuffix(")"))
    assert len(operands) == len(listed), example
    arguments = ", ".join(f"{n}: {t}" for n, t in zip(operands, listed, strict=True))
    text = f"func.func @main({arguments}) {{\n{example}\nfunc.return\n}}"
    return Parser(Context(), text).parse_module()


def _split(text: str) -> list[str]:
    """A list of types at its commas, but for those inside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
