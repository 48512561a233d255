"""Calibration: what a model says of its own doubt; never torch."""
