"""What is said of a torch node that is refused: remedies, and a converter to complete."""

from __future__ import annotations

import keyword
import re
from typing import Any

REMEDY = "register a converter for it (below), or replace the op in the model"
REPAIR = "change the call in the model, or report it if it is valid"


def stub_of(target: Any, name: str) -> str:
    """Source of a converter for a call target called `name`; empty where it has no schema."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return ""
    given = [a for a in schema.arguments if not keyword.iskeyword(a.name)]
    words = [f"{a.name}={a.default_value!r}" if a.has_default_value() else a.name for a in given]
    split = sum(not a.kwarg_only for a in given)
    rest = [*words[split:], *(["**_"] if len(given) < len(schema.arguments) else [])]
    star = ["*"] if len(words) > split else []
    parameters = ["c: NodeBuilder", *words[:split], *star, *rest]
    first = f"c.tensor({given[0].name})" if given else "c.constant(0.0, c.out_element())"
    result = first if len(schema.returns) == 1 else f"({', '.join([first] * len(schema.returns))})"
    function = re.sub(r"\W", "_", schema.name.split("::")[-1])
    return "\n".join(
        [
            "from torsh_fx.importers.torch_ops import NodeBuilder, converts",
            "",
            "",
            f"@converts({name!r})",
            f"def {function}({', '.join(parameters)}):",
            f'    """{schema}."""',
            f"    return {result}  # build them of torsh ops: docs/dialect.md",
        ]
    )
