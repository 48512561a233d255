# What the rules share: the checked configuration, names, and where files come from.
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)
os.environ["PYTHONPATH"] = (
    workflow.basedir
)  # the scripts run from a cached copy, in other environments

from scbert import config as settings_of
from scbert.config import load_config, load_datasets, settings_for

try:
    CONFIG = load_config(config)
    DATASETS = load_datasets(Path(CONFIG.datasets))
except ValueError as error:
    raise WorkflowError(str(error)) from None

SEEDS = CONFIG.finetune.seeds
PAGES = (
    expand("results/reports/{dataset}.html", dataset=DATASETS)
    if len(DATASETS) > 1
    else []
)
PACKAGE = "package:"
FROM_PANGLAODB = CONFIG.corpus.source == "panglaodb"


wildcard_constraints:
    source=r"[\w-]+",
    dataset=r"[\w-]+",
    sample=r"[\w-]+(\.train)?",
    store=r"[\w-]+",
    seed=r"\d+",


def git_commit():
    """The commit of this checkout, with + if files were changed; empty outside git."""
    git = ["git", "-C", workflow.basedir]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD"], check=False
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed else "")


os.environ.setdefault("SCBERT_COMMIT", git_commit())


def code(*parts):
    """A hash of modules of the package: an edit there runs the rule again."""
    root = Path(workflow.basedir, "scbert")
    files = [path for part in ("config.py", *parts) for path in sorted(root.glob(part))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[
        :16
    ]


def file_of(source):
    """The file as the user names it: a path, or package:NAME/FILE."""
    if source == "gene_table":
        return CONFIG.vocabulary.gene_table
    return (
        DATASETS[source].file if source in DATASETS else CONFIG.corpus.samples[source]
    )


def local_file(source):
    """Where a file is read: where it lies, or below resources/ if a package ships it."""
    file = file_of(source)
    return (
        f"resources/{source}{Path(file).suffix}" if file.startswith(PACKAGE) else file
    )


def cells_file(wildcards):
    """The file with the cells of a dataset or of a sample of the corpus."""
    if FROM_PANGLAODB and wildcards.source not in DATASETS:
        return f"resources/panglaodb/{wildcards.source}.sparse.RData"
    return local_file(wildcards.source)


def read_settings(wildcards):
    """Settings of read_counts."""
    known = wildcards.source in DATASETS or wildcards.source in CONFIG.corpus.samples
    return settings_for(
        settings_of.ReadSettings,
        CONFIG,
        sample=wildcards.source,
        source=file_of(wildcards.source) if known else "PanglaoDB",
        dataset=DATASETS.get(wildcards.source),
    )


def corpus_samples():
    """Samples of the corpus: unlabelled files, and the training cells of some datasets."""
    if FROM_PANGLAODB:
        with checkpoints.select_samples.get().output.samples.open() as table:
            header, *rows = (line.rstrip("\n").split("\t") for line in table)
        rows = [dict(zip(header, row)) for row in rows]
        samples = [row["sample"] for row in rows if row["included"] == "yes"]
    else:
        samples = list(CONFIG.corpus.samples)
    return samples + [
        f"{name}.train" for name, dataset in DATASETS.items() if dataset.joins_corpus
    ]


def of_corpus(pattern):
    """An input function: one path for each sample of the corpus."""

    def paths(wildcards):
        return expand(pattern, sample=corpus_samples())

    return paths


def expressions_of_store(wildcards):
    """The files of expression that a token store is made of."""
    samples = (
        corpus_samples() if wildcards.store == CONFIG.corpus.name else [wildcards.store]
    )
    return expand("results/expression/{sample}.h5ad", sample=samples)


def fetch_settings(wildcards):
    """Settings of fetch_dataset."""
    return settings_for(
        settings_of.SourceSettings, CONFIG, source=file_of(wildcards.source)
    )


def sample_settings(wildcards):
    """Settings of fetch_panglaodb."""
    return settings_for(
        settings_of.SampleSettings,
        CONFIG,
        sample=f"{wildcards.sra}_{wildcards.srs}",
        panglaodb=CONFIG.corpus.panglaodb,
    )


def panglaodb_settings(wildcards):
    """Settings of the choice of samples; a function, for {sra} in them is no wildcard."""
    return CONFIG.corpus.panglaodb.model_dump_json()


def resolved_config(wildcards):
    """The whole configuration."""
    return CONFIG.model_dump_json()


def finetune_settings(wildcards):
    """Settings of finetune."""
    return settings_for(settings_of.FinetuneSettings, CONFIG, seed=int(wildcards.seed))


def ontology_of(wildcards):
    """The table of Cell Ontology ids of a dataset, if it has one."""
    return DATASETS[wildcards.dataset].ontology or []
