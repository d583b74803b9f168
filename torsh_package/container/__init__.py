"""Archives: canonical writing, strict and relaxed reading, atomic replacement of files."""
