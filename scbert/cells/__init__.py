"""Cells: from files to checked counts. numpy, scipy, pandas, anndata; never torch."""
