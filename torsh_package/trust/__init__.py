"""Signatures and trust: who signed a package, and whether to believe them."""
