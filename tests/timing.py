"""What a history says of the machine: equal runs differ in it."""

TIMING = {"seconds", "cells_per_second", "tokens_per_second", "waiting_share"}
TIMING |= {"tflop_per_second", "mfu", "peak_memory_gb"}
