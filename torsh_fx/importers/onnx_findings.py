"""What is said of an ONNX node that is refused: reason, place, remedy, a converter to complete."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from torsh_dialect.errors import Finding, TorshError
from torsh_fx.importers.onnx_ops.node import NotSupported

if TYPE_CHECKING:
    from onnx import NodeProto

REPAIR = "repair the node, or report it if it is valid"
TRACE = "pkg.torch.onnx.stack_trace"
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes the line and the modules that a node comes from."""


class NoConverter(NotSupported):
    """Nobody says what an operator means."""

    def __init__(self, reason: str):
        super().__init__(reason, "remove the node, or register a converter for it (below)")


class UserCodeError(NotSupported):
    """The converter that a user registered for an operator raised an error."""

    def __init__(self, error: Exception):
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).strip()
        super().__init__(
            f"its registered converter raised {type(error).__name__}"
            f"{f': {said}' if said else ''} (at {where.filename}:{where.lineno}, in {where.name})",
            "repair the converter",
        )


def finding_of(error: Exception, node: NodeProto, name: str, version: int) -> Finding:
    """The finding that an error of a converter means.

    An error of Python, raised where a node breaks a rule that its converter does not look for,
    is named with the function that met it; its text would tell users nothing. It is the cause of
    the report's error, so that `--debug` shows it.
    """
    reason = error.message if isinstance(error, TorshError) else _broken(error)
    remedy = getattr(error, "remedy", "") or REPAIR
    op = f"{node.domain or 'ai.onnx'}::{node.op_type}-{version}"
    stub = stub_of(node, version) if isinstance(error, NoConverter) else ""
    return Finding(op, name, reason, location_of(node), remedy, stub)


def _broken(error: Exception) -> str:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    code = "" if last is None else f" by {last.tb_frame.f_code.co_name}"
    return f"its operands or attributes do not fit the operator ({type(error).__name__}{code})"


def location_of(node: NodeProto) -> str:
    """Module path and file:line of a node, where its exporter notes them; else empty."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    frames = re.findall(r'File "([^"]+)", line (\d+)', notes.get(TRACE, "") or node.doc_string)
    scopes = re.findall(r"'([^']*)'", notes.get(SCOPES, ""))
    module = next((scope for scope in reversed(scopes[:-1]) if scope), "")
    place = ":".join(frames[-1]) if frames else ""
    return f"{module} ({place})" if module and place else module or place


def stub_of(node: NodeProto, version: int) -> str:
    """Source of a converter for an operator, to complete."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.op_type).lower()
    name = name if name.isidentifier() else "convert"
    inputs = [f"    x{n} = n.input({n})" for n, given in enumerate(node.input) if given]
    attributes = ", ".join(a.name for a in node.attribute) or "none"
    results = ", ".join(["x0"] * max(len(node.output), 1))
    body = [*inputs, f"    return [{results}]  # build them of torsh ops: docs/dialect.md"]
    if not inputs:
        body = ['    raise NotSupported("say what it gives")']
    return "\n".join(
        [
            "from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter",
            "",
            "",
            f"@converter({node.op_type!r}, domain={node.domain!r})",
            f"def {name}(n: Node):",
            f'    """{node.op_type}-{version}; attributes: {attributes}."""',
            *body,
        ]
    )
