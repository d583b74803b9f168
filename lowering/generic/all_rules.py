"""Importing this module registers every rule."""

from lowering.generic import contract, rules, window

__all__ = ["contract", "rules", "window"]
