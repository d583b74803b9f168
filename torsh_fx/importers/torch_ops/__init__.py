"""Converters of torch ops, one file for each family; importing this fills the table."""

from torsh_fx.importers.torch_ops import (
    complexes,
    control,
    create,
    elementwise,
    indexing,
    movement,
    nn,
    recurrent,
    reduce,
    symbolic,
)
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder, converts
from torsh_fx.importers.torch_ops.symbolic import SYMBOLIC

__all__ = [
    "CONVERTERS",
    "SYMBOLIC",
    "NodeBuilder",
    "complexes",
    "control",
    "converts",
    "create",
    "elementwise",
    "indexing",
    "movement",
    "nn",
    "recurrent",
    "reduce",
    "symbolic",
]
