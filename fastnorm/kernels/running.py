"""Running statistics, as a batch moves them."""

import numpy as np

from .._jit import arithmetic


@arithmetic
def blend(running, kept, batch, share):
    """running ← kept·running + share·batch, of (C,) each, in float64 whatever running's dtype; an overflow is no warning.

    NumPy took 3 µs for it, of the 4 that a small call takes without running statistics.
    """
    for c in range(len(running)):
        running[c] = kept * np.float64(running[c]) + share * batch[c]
