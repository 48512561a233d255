#!/usr/bin/env bash
# Build the source archive and the wheel into dist/, install both into an empty environment with nothing but
# what they ask for, and name blood cells there: PYTHON=python3.12 tests/package.sh, after `make demo`.
# TORCH=cpu: PyTorch without CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
cells=$(.venv/bin/python -c "import celltypist; print(celltypist.__path__[0])")/data/samples/sample_cell_by_gene.csv
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"${PYTHON:-python3}" -m venv "$room/empty"
pip() { "$room/empty/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

pip install build
rm -rf dist
"$room/empty/bin/python" -m build --outdir dist >"$room/build.log" || { cat "$room/build.log"; exit 1; }
pip uninstall --yes build pyproject_hooks
ls -l dist

if [ "${TORCH:-}" = cpu ]; then
  pip install --constraint constraints.txt --no-deps --index-url https://download.pytorch.org/whl/cpu torch
fi
pip install --constraint constraints.txt dist/*.whl
pip check
cd "$room" # where the checkout cannot be imported
head -n 121 "$cells" >cells.csv
for built in "$repository"/dist/*.whl "$repository"/dist/*.tar.gz; do
  pip install --force-reinstall --no-deps "$built"
  empty/bin/scbert annotate cells.csv --out "$(basename "$built").h5ad"
  empty/bin/python - "$(basename "$built").h5ad" <<'PYTHON'
import sys

import anndata
import scbert

named = anndata.read_h5ad(sys.argv[1]).obs["scbert_label"]
assert len(named) == 120 and named.nunique() > 3, named.value_counts()
print(f"scbert {scbert.__version__} from {scbert.__file__}: {named.value_counts().to_dict()}")
PYTHON
done
