"""Calibration: confidence, novelty and parent types of predictions; never torch."""
