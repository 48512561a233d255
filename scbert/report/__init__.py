"""Report: the page, the model card and their figures; computes nothing, never torch."""
