"""The reference of polygamma against mpmath, where the argument is negative too."""

import mpmath
import numpy as np
import pytest

from torsh_dialect.ops.special_reference import polygamma

POINTS = [-400.6, -8.478373527526855, -1.5, -0.01, 0.25, 1.0, 3.5, 40.0]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_polygamma(n):
    expected = [float(mpmath.polygamma(n, x)) for x in POINTS]
    np.testing.assert_allclose(polygamma(n, np.array(POINTS)), expected, rtol=1e-10)
