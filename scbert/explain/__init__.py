"""Explain: which genes speak for a cell type, and whether they do."""
