# The checked configuration, the names that follow from it, and what each rule must know of it.
from scbert import config as settings_of
from scbert.config import load_config, load_datasets, load_samples, settings_for
from scbert.config.sources import fetched_suffix, is_fetched

try:
    CONFIG = load_config(config)
    DATASETS = load_datasets(Path(found(CONFIG.datasets)))
    SAMPLES = load_samples(Path(found(CONFIG.corpus.samples)))
except ValueError as error:
    raise WorkflowError(str(error)) from None

FILES = {"gene_table": CONFIG.vocabulary.gene_table}
FILES |= {"gene_list": file for file in [CONFIG.vocabulary.genes] if file}
FILES |= {name: sample.file for name, sample in SAMPLES.items()}
TAKEN = sorted({"corpus", CONFIG.corpus.name, *FILES} & {*DATASETS})
if TAKEN:
    raise WorkflowError(
        f"{CONFIG.datasets} has a dataset '{TAKEN[0]}', but the corpus uses that name for its own "
        "files, and one would overwrite the other. Rename the dataset."
    )
FILES |= {name: dataset.file for name, dataset in DATASETS.items()}
FETCHED = {
    name: fetched_suffix(file) for name, file in FILES.items() if is_fetched(file)
}
FROM_PANGLAODB = CONFIG.corpus.source == "panglaodb"
SEEDS = CONFIG.finetune.seeds
PAGES = [f"results/reports/{name}.html" for name in DATASETS if len(DATASETS) > 1]
CORPUS_FIGURES = ["tokens", "gene2vec", "pretraining"]
DATASET_FIGURES = [
    "scores",
    "confusion",
    "per_type",
    "finetuning",
    "umap",
    "reliability",
]


def read_settings(wildcards):
    """Settings of read_counts."""
    line = {**SAMPLES, **DATASETS}.get(wildcards.source)
    return settings_for(
        settings_of.ReadSettings,
        CONFIG,
        sample=wildcards.source,
        source=FILES.get(wildcards.source, "PanglaoDB"),
        matrix=line.matrix if line else "auto",
        scale=line.scale if line else "auto",
        dataset=DATASETS.get(wildcards.source),
        leave_out=wildcards.source not in FILES,
    )


def fetch_settings(wildcards):
    """Settings of fetch_dataset and fetch_mtx."""
    return Untracked(
        settings_for(
            settings_of.SourceSettings,
            CONFIG,
            source=FILES[wildcards.source],
            sha256=sha256_of_source(wildcards),
        )
    )


def sha256_of_source(wildcards):
    """What the table of the corpus expects of a file."""
    line = SAMPLES.get(wildcards.source)
    return line.sha256 if line else ""


def source_of(wildcards):
    """Where a fetched file comes from."""
    return FILES[wildcards.source]


def sample_settings(wildcards):
    """Settings of the downloads of a PanglaoDB sample."""
    return Untracked(
        settings_for(
            settings_of.SampleSettings,
            CONFIG,
            sample=f"{wildcards.sra}_{wildcards.srs}",
            panglaodb=CONFIG.corpus.panglaodb,
        )
    )


def tables_settings(wildcards):
    """Settings of the download of PanglaoDB's tables."""
    return Untracked(
        settings_for(
            settings_of.PanglaoDBSettings, CONFIG, panglaodb=CONFIG.corpus.panglaodb
        )
    )


def panglaodb_settings(wildcards):
    """Settings of the choice of samples; a function, for {sra} in them is no wildcard."""
    return CONFIG.corpus.panglaodb.model_dump_json()


def resolved_config(wildcards):
    """The whole configuration."""
    return CONFIG.model_dump_json()


def finetune_settings(wildcards):
    """Settings of finetune, with its own seed alone: one more seed trains no other again."""
    seed = int(wildcards.seed)
    own = CONFIG.finetune.model_copy(update={"seeds": (seed,)})
    return settings_for(settings_of.FinetuneSettings, CONFIG, seed=seed, finetune=own)
