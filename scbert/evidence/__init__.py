"""Evidence: metrics, baselines, what gene vectors know; never torch."""
