"""Histories without the times of a machine, in which equal runs differ."""

TIMING = {"seconds", "cells_per_second", "tokens_per_second", "waiting_share"}
TIMING |= {"tflop_per_second", "mfu", "peak_memory_gb"}
