"""Cells: from files to tokens. numpy, scipy, pandas, anndata; never torch."""
