# Needs Python >= 3.11 and make; everything else is installed into .venv. `make help` lists what there is.
PYTHON ?= python3
# TORCH=cpu: PyTorch without CUDA, 200 MB instead of several GB on Linux. For a new .venv.
TORCH ?=
CPU_WHEELS := https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The rules call plain `python`: it must be the one of .venv.
WITH_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
# Files begin in the order of tests/conftest.py, the longest first.
PYTEST := $(WITH_VENV) pytest -q -n auto --dist loadfile --no-loadscope-reorder
SOURCES := Snakefile workflow/Snakefile rules/*.smk

.PHONY: help demo benchmark package test test-fast test-docs test-slurm test-faults check docs bench bench-corpus bench-annotate bench-inputs blood bench-training bench-pretraining bench-gpu clean schema

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-18s %s\n", $$1, $$2}' Makefile
	@echo "PYTHON=python3.12: another Python for a new .venv. TORCH=cpu: PyTorch without CUDA, smaller by GBs on Linux."

demo: $(VENV)/.workflow  ## the demo, from raw counts to results/report.html
	$(WITH_VENV) snakemake
	@echo "The report is in $(CURDIR)/results/report.html"

benchmark: $(VENV)/.workflow  ## scBERT beside other methods on data that the dependencies ship, minutes: docs/benchmark.md
	$(WITH_VENV) snakemake --configfile config/benchmark-small.yaml -- benchmark
	@echo "The page is $(CURDIR)/results/benchmark.html"

test: $(VENV)/.dev  ## the test suite
	$(PYTEST)

test-fast: $(VENV)/.dev  ## the tests that take no seconds each, without Snakemake: while you work
	$(PYTEST) -m "not workflow and not slow"

test-docs: $(VENV)/.dev  ## the commands that the pages show, run page by page: three minutes
	$(PYTEST) --dist load tests/docs/run_pages.py

test-slurm: $(VENV)/.slurm  ## pretraining on two nodes of a Slurm in namespaces of this machine: root, Debian, up to half an hour
	$(WITH_VENV) tests/slurm/two_nodes.sh

# FAULTS: signals to the workflow and its jobs; TRIES: damaged copies of each kind of input. About two hours on two cores.
FAULTS ?= 40
TRIES ?= 500
test-faults: $(VENV)/.dev  ## killed, damaged, full, read-only: what happens then, and docs/results/faults.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --moments $(FAULTS) --tries $(TRIES)

check: $(VENV)/.dev  ## style, types, import contracts
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/snakefmt --check $(SOURCES) 2>/dev/null
	$(WITH_VENV) snakemake --lint
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

package: $(VENV)/.workflow  ## dist/: source archive and wheel, tried in an empty environment
	PYTHON=$(PYTHON) TORCH=$(TORCH) tests/package.sh

docs: $(VENV)/.docs  ## the site: docs/_build/html/index.html; the tutorials are run, a minute
	$(WITH_VENV) sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "The site is $(CURDIR)/docs/_build/html/index.html"

bench: bench-corpus bench-training bench-annotate  ## speed and memory beside peers

# make bench-corpus CORPUS="--cells 1000000" for a corpus of PanglaoDB's size: half an hour, 20 GB of disk.
bench-corpus: $(VENV)/.dev
	$(BIN)/python benchmarks/corpus.py $(CORPUS)
	$(BIN)/python benchmarks/store.py

bench-annotate: $(VENV)/.dev  ## speed at the paper's size, memory of a million cells (CELLS): docs/results/annotate.md
	$(BIN)/python benchmarks/annotation_speed.py $(if $(CELLS),--cells $(CELLS))
bench-training: $(VENV)/.dev  ## memory of the trainer by the size of the corpus, waiting for data: docs/results/training.md
	$(BIN)/python benchmarks/training.py

# POOL: cells of several studies, named in obs.batch. About an hour for each of the two runs; one that was stopped
# continues. With the large study, fewer epochs take as long, and the share of the held-out cells stays 400 of them.
POOL_STUDY := pbmc8k_10x_3pv2
WITH := --config 'pretrain={"validation_fraction": 0.037, "optimizer": {"epochs": 3}}'
POOL_RUN = $(WITH_VENV) snakemake --configfile benchmarks/pool.yaml --directory results/pool
bench-pretraining: $(VENV)/.dev  ## pretraining on the cells of POOL, without and with one study: docs/results/pretraining.*
	$(BIN)/python benchmarks/pool.py $(POOL) --drop $(POOL_STUDY) --out results/pool/without
	$(BIN)/python benchmarks/pool.py $(POOL) --out results/pool/with
	$(POOL_RUN)/without --cores 2 pretrain
	$(POOL_RUN)/with $(WITH) --cores 2 pretrain
	$(BIN)/python benchmarks/pool_report.py results/pool/without results/pool/with

# One GPU, 560 seconds at most; DATA: cells carried there (benchmarks/gpu_data.py), toy cells without it. The page is written
# from what came back: python benchmarks/gpu_table.py results/gpu
bench-gpu: $(VENV)/.dev  ## correctness, speed and a pretraining on one GPU: docs/results/gpu.*
	$(BIN)/python benchmarks/gpu.py --out results/gpu $(if $(DATA),--data $(DATA))

# CELLS: an .h5ad of counts of blood; without it, the cells that celltypist ships.
bench-inputs: $(VENV)/.dev  ## what happens with the same cells in 200 kinds of files: docs/results/inputs.md
	$(BIN)/python benchmarks/inputs.py $(CELLS)

blood: $(VENV)/.dev  ## the blood model of the package, from DATA: results/blood/blood
	$(BIN)/python benchmarks/blood.py $(DATA) --out results/blood

schema: $(VENV)/.workflow  ## config/config.schema.yaml and the table of config/README.md, from scbert/config/ and config.yaml
	$(BIN)/python -m scbert.schema config

docs/rules.svg: $(VENV)/.workflow Snakefile rules/*.smk docs/draw_rules.py  # the picture of the rules
	$(WITH_VENV) snakemake --forceall --rulegraph | $(BIN)/python docs/draw_rules.py $@

clean:  ## everything that a run made; .venv and the code stay
	rm -rf results resources logs .snakemake docs/_build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: scBERT needs 3.11 or newer. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.workflow: $(VENV)/bin/python pyproject.toml constraints.txt
	$(if $(filter cpu,$(TORCH)),$(PIP) --no-deps --index-url $(CPU_WHEELS) torch)
	$(PIP) -e '.[workflow]'
	@touch $@

$(VENV)/.dev: $(VENV)/.workflow
	$(PIP) -e '.[workflow,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.workflow
	$(PIP) -e '.[workflow,docs]'
	@touch $@

$(VENV)/.slurm: $(VENV)/.dev
	$(PIP) -e '.[workflow,dev,slurm]'
	@touch $@
