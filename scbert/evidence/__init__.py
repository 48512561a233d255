"""Evidence: metrics, baselines, confidence, figures, report; never torch."""
