"""What limits at some moments say about others, if one knows how fast a quantity may change.

A quantity y with |y(x) - y(z)| <= |K(x) - K(z)|, K ascending, that lies below B_i at x_i lies everywhere below
min_i (B_i + |K(x) - K(x_i)|): the Lipschitz envelope (E. J. McShane, Bull. Am. Math. Soc. 40, 837, 1934).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def above(k: Float64, y: Float64, at: Float64) -> Float64:
    """min_i (y_i + |at - k_i|); k ascends; inf without points. O(n + m log n)."""
    if not k.size:
        return np.full(at.shape, np.inf)
    # From the left the points count as y - k, from the right as y + k.
    left = np.minimum.accumulate(y - k)
    right = np.minimum.accumulate((y + k)[::-1])[::-1]
    j = np.searchsorted(k, at, side="right")
    upper = np.where(j > 0, left[np.maximum(j - 1, 0)] + at, np.inf)
    return np.minimum(upper, np.where(j < k.size, right[np.minimum(j, k.size - 1)] - at, np.inf))


def below(k: Float64, y: Float64, at: Float64) -> Float64:
    """max_i (y_i - |at - k_i|)."""
    return -above(k, -y, at)
