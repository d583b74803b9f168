"""Elementary and special functions written once and interpreted by every emitter."""
