"""Importing this module registers every rule and whole kernel."""

from lowering.generic import (
    adaptive,
    complex,
    contract,
    indexed,
    ordering,
    rules,
    scan,
    scatter,
    window,
)

__all__ = [
    "adaptive",
    "complex",
    "contract",
    "indexed",
    "ordering",
    "rules",
    "scan",
    "scatter",
    "window",
]
