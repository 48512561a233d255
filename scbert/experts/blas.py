"""Threads of the BLAS library in fits of experts, components and baselines: one."""

from threadpoolctl import threadpool_limits

# For functions that fit. Their products are small: more threads of the BLAS library take twice the
# processor time, and more time on the clock. And a fit is the same bits with any number of cores.
one_blas_thread = threadpool_limits.wrap(limits=1, user_api="blas")
