"""Importers: each turns one framework's model into a module of the torsh dialect."""
