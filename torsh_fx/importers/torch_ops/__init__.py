"""Converters of torch ops, one file for each family; importing this fills the table."""

from torsh_fx.importers.torch_ops import (
    attention,
    complexes,
    control,
    create,
    elementwise,
    indexing,
    linalg,
    movement,
    norms,
    polynomials,
    pooling,
    products,
    recurrent,
    reduce,
    resample,
    segments,
    symbolic,
)
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder, converts
from torsh_fx.importers.torch_ops.symbolic import SYMBOLIC

__all__ = [
    "CONVERTERS",
    "SYMBOLIC",
    "NodeBuilder",
    "attention",
    "complexes",
    "control",
    "converts",
    "create",
    "elementwise",
    "indexing",
    "linalg",
    "movement",
    "norms",
    "polynomials",
    "pooling",
    "products",
    "recurrent",
    "reduce",
    "resample",
    "segments",
    "symbolic",
]
