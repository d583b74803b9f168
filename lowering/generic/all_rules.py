"""Importing this module registers every rule and whole kernel."""

from lowering.generic import (
    adaptive,
    complex,
    contract,
    datadependent,
    factor,
    indefinite,
    indexed,
    ordering,
    random,
    rules,
    scan,
    scatter,
    spectral,
    suppression,
    unique,
    window,
)

__all__ = [
    "adaptive",
    "complex",
    "contract",
    "datadependent",
    "factor",
    "indefinite",
    "indexed",
    "ordering",
    "random",
    "rules",
    "scan",
    "scatter",
    "spectral",
    "suppression",
    "unique",
    "window",
]
