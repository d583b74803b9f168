"""Target-independent passes; each file is one pass, named like it."""
