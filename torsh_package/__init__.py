"""The safe container for compiled models."""
