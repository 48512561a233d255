"""Shared parts of tests that need a GPU."""

import warnings
from contextlib import contextmanager

import pytest
import torch


def needs_gpu(test):
    skipped = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(skipped(test))


@contextmanager
def never_waiting():
    """Any wait of the CPU for the GPU is an error."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
