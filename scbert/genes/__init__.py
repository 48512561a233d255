"""Genes: names, the vocabulary, cell types and their markers, vectors; never torch."""
