"""Conversions of dtype and device, and what leaves its operand as it is."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.ops import storage
from torsh_dialect.types import device_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts


@converts(
    "_to_copy", "to.dtype", "to.dtype_layout", "prims.convert_element_type", "type_as", "_to_copy"
)
def _to(c: NodeBuilder, x: SSAValue, *rest: Any, **options: Any) -> SSAValue:
    device = c.graph.shared.device(c.node.meta["val"])
    if device is None or device == device_of(x):
        return c.finished(x)
    return c.b(storage.ToDeviceOp, c.finished(x), device=device)


@converts(
    "clone",
    "contiguous",
    "detach",
    "detach_",
    "alias",
    "lift_fresh_copy",
    "lift_fresh",
    "positive",
    "resolve_conj",
    "resolve_neg",
    "_assert_tensor",
    "alias_copy",
    "detach_copy",
    "rrelu.inference",
)
def _same(c: NodeBuilder, x: SSAValue, *rest: Any, **options: Any) -> Any:
    return x
