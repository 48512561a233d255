"""Explain: genes that a model relies on for each cell type, and a test of that."""
