"""Graphs: `FxGraph`, a live view of a module, and what builds, checks and rewrites it."""
