# The checked configuration, the names that follow from it, and what each rule must know of it.
from scbert import config as settings_of
from scbert.config import load_config, load_datasets, load_samples, settings_for

PACKAGE = "package:"

try:
    CONFIG = load_config(config)
    DATASETS = load_datasets(Path(found(CONFIG.datasets)))
    SAMPLES = load_samples(Path(found(CONFIG.corpus.samples)))
except ValueError as error:
    raise WorkflowError(str(error)) from None

FILES = {"gene_table": CONFIG.vocabulary.gene_table}
IMPORTED = ["gene_vectors"] if CONFIG.gene2vec.source == "import" else []
GENE_SETS = [f"gene_sets{n}" for n, _ in enumerate(CONFIG.gene2vec_quality.gene_sets)]
LABELLED_PAIRS = [
    f"labelled_pairs_{part}_{kind}"
    for part in ("train", "valid", "test")
    for kind in ("text", "label")
    if CONFIG.gene2vec_quality.labelled_pairs
]
FILES |= {name: CONFIG.gene2vec.file for name in IMPORTED}
FILES |= dict(zip(GENE_SETS, CONFIG.gene2vec_quality.gene_sets))
FILES |= {
    name: CONFIG.gene2vec_quality.labelled_pairs.format(
        part=name.split("_")[2], kind=name.split("_")[3]
    )
    for name in LABELLED_PAIRS
}
FILES |= {name: sample.file for name, sample in SAMPLES.items()}
TAKEN = sorted({"corpus", CONFIG.corpus.name, *FILES} & {*DATASETS})
if TAKEN:
    raise WorkflowError(
        f"{CONFIG.datasets} has a dataset '{TAKEN[0]}', but the corpus uses that name for its own "
        "files, and one would overwrite the other. Rename the dataset."
    )
FILES |= {name: dataset.file for name, dataset in DATASETS.items()}
SHIPPED = [name for name, file in FILES.items() if file.startswith(PACKAGE)]
FROM_PANGLAODB = CONFIG.corpus.source == "panglaodb"
SEEDS = CONFIG.finetune.seeds
PAGES = [f"results/reports/{name}.html" for name in DATASETS if len(DATASETS) > 1]
CORPUS_FIGURES = ["tokens", "gene2vec", "gene2vec_quality", "pretraining"]
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
    )


def fetch_settings(wildcards):
    """Settings of fetch_dataset."""
    return settings_for(
        settings_of.SourceSettings, CONFIG, source=FILES[wildcards.source]
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
    """Settings of finetune, with its own seed alone: one more seed trains no other again."""
    seed = int(wildcards.seed)
    own = CONFIG.finetune.model_copy(update={"seeds": (seed,)})
    return settings_for(settings_of.FinetuneSettings, CONFIG, seed=seed, finetune=own)
