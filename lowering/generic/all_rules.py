"""Importing this module registers every rule and whole kernel."""

from lowering.generic import contract, indexed, ordering, rules, scan, scatter, window

__all__ = ["contract", "indexed", "ordering", "rules", "scan", "scatter", "window"]
