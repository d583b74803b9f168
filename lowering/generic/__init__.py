"""Generic lowering: every kind of op as loops in `kern`, correct for all shapes and dtypes."""
