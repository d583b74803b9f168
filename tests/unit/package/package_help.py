"""Arrays for the tests of packages."""

from typing import Any

import numpy as np


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "fc.weight": rng.standard_normal((10, 784)).astype(np.float32),
        "fc.bias": rng.standard_normal(10).astype(np.float32),
        "steps": np.array(7),
        "mask": np.array([True, False]),
        "z": np.array([1 + 2j], np.complex64),
        "none": np.zeros((0, 3), np.int8),
    }
