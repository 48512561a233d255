"""PanglaoDB's files of counts.

Franzen et al. 2019, Database baz046. A sample is an R file with the object `sm`, a sparse matrix of
genes x cells (dgCMatrix), whose row names are SYMBOL_ENSEMBLID.VERSION, with _PAR_Y behind it for
the copy on Y of a gene that X and Y share: one gene, whose reads are shared between the two rows.
"""

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import rdata
from scipy import sparse

ROW_NAME = r"^(?P<symbol>.+?)[_-](?P<gene_id>ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_PAR_Y)?$"


def read_rdata(path: Path) -> ad.AnnData:
    """Read the counts of a PanglaoDB sample.

    Returns
    -------
    Cells x genes; var symbol and gene_id. Genes that occur in several rows of one Ensembl id are
    added up. Counts can be fractions, where PanglaoDB divided a read between genes.

    Raises
    ------
    ValueError
        If the file has no `sm` (RPKM only), or cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Missing constructor for R class")
            objects = rdata.read_rda(path)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as an R file ({error!r}). Download it again."
        ) from error
    if "sm" not in objects:
        raise ValueError(
            f"{path} holds {', '.join(objects) or 'nothing'}, but counts are in 'sm'. Files with "
            "RPKM only (sm2) cannot be used: exclude the sample in config/exclusions.tsv."
        )
    return _to_anndata(objects["sm"], path)


def _to_anndata(sm: Any, path: Path) -> ad.AnnData:
    genes, cells = (pd.Index(np.asarray(names).astype(str)) for names in sm.Dimnames)
    matrix = sparse.csc_matrix((sm.x, sm.i, sm.p), shape=tuple(int(n) for n in sm.Dim)).T
    names = genes.to_series().str.extract(ROW_NAME).reset_index(drop=True)
    names = names.fillna({"symbol": pd.Series(genes), "gene_id": ""})
    names["gene"] = names.gene_id.where(names.gene_id != "", names.symbol)
    number, unique = pd.factorize(names.gene)
    collect = sparse.csr_matrix((np.ones(len(genes)), (np.arange(len(genes)), number)))
    var = names.drop_duplicates("gene").set_index("gene").loc[unique, ["symbol", "gene_id"]]
    var.index.name = None
    sample = path.name.split(".")[0]
    obs = pd.DataFrame(index=f"{sample}_" + cells)
    return ad.AnnData(sparse.csr_matrix(matrix @ collect, dtype=np.float32), obs=obs, var=var)
