"""Passes that decide how a program runs; each file is one pass, named like it."""
