"""Make the op samples of `tests/unit/dialect` importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "dialect"))
