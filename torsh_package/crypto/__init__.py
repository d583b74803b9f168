"""Encryption of packages: payload streams, key wrapping and the `PackageEncryptor` facade."""
