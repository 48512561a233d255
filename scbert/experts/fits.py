"""Every fit of an expert or a baseline: its threads, and labels that say nothing of a spread."""

import numpy as np
from threadpoolctl import threadpool_limits

# For functions that fit. Their products are small: more threads of the BLAS library take twice the
# processor time, and more time on the clock. And a fit is the same bits with any number of cores.
one_blas_thread = threadpool_limits.wrap(limits=1, user_api="blas")


def one_cell_each(label: np.ndarray) -> bool:
    """Whether each type has a single cell, so that nothing says how cells of one type differ."""
    return len(np.unique(label)) == len(label)
