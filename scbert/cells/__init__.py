"""Cells: from files to tokens. numpy, scipy, pandas, anndata, scanpy; never torch."""
