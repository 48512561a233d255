# The checked configuration, the names that follow from it, and what each rule must know of it.
import platform

from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from scbert import __version__ as SCBERT
from scbert import config as settings_of
from scbert.config import (
    load_config,
    load_datasets,
    load_methods,
    load_queries,
    load_samples,
    settings_for,
)
from scbert.config.benchmark import benchmark_sets, chosen_methods, require_programs
from scbert.config.inputs import CELLS as CELL_FILES
from scbert.config.inputs import TABLES, fetched_suffix, is_fetched


def with_defaults(given):
    """The configuration of a module: where it is given one, Snakemake reads no other."""
    values = load_configfile(CHECKOUT / "config/config.yaml")
    update_config(values, given)
    return values


try:
    CONFIG = load_config(with_defaults(config) if AS_MODULE else config)
    DATASETS = load_datasets(Path(found(CONFIG.datasets)))
    SAMPLES = load_samples(Path(found(CONFIG.corpus.samples)))
    QUERIES = load_queries(Path(found(CONFIG.queries)))
    ALL_METHODS = load_methods(Path(found(CONFIG.benchmark.methods)))
    METHODS = chosen_methods(ALL_METHODS, CONFIG.benchmark)
    BENCHMARK_SETS = benchmark_sets(CONFIG.benchmark, DATASETS)
    require_programs({name: found(one.folder) for name, one in METHODS.items()})
except ValueError as error:
    raise WorkflowError(str(error)) from None

CHECKPOINTS = CONFIG.checkpoints.rstrip("/")
DEVICE = Untracked(CONFIG.device)  # what was made on one is not made again on another
IMPORTED = ["gene_vectors"] if CONFIG.gene2vec.source == "import" else []
GENE_SETS = {
    f"gene_sets{n}": file for n, file in enumerate(CONFIG.gene2vec_quality.gene_sets)
}
EXPLAIN_GENE_SETS = {
    f"explain_gene_sets{n}": file for n, file in enumerate(CONFIG.explain.gene_sets)
}
MARKERS = {"markers": CONFIG.explain.markers} if CONFIG.explain.markers else {}
LABELLED_PAIRS = {
    f"labelled_pairs_{part}_{kind}": CONFIG.gene2vec_quality.labelled_pairs.format(
        part=part, kind=kind
    )
    for part in ("train", "valid", "test")
    for kind in ("text", "label")
    if CONFIG.gene2vec_quality.labelled_pairs
}
TABLES_OF_GENES = {
    "gene_table": CONFIG.vocabulary.gene_table,
    **{"gene_list": file for file in [CONFIG.vocabulary.genes] if file},
    **{name: CONFIG.gene2vec.file for name in IMPORTED},
    **GENE_SETS,
    **LABELLED_PAIRS,
    **EXPLAIN_GENE_SETS,
    **MARKERS,
}
CELLS = {name: line.file for name, line in {**SAMPLES, **DATASETS, **QUERIES}.items()}
JOINED = {name: line.parts for name, line in DATASETS.items() if line.parts}
TABLES_OF_CELLS = {
    f"cells_of_{name}": line.cell_table
    for name, line in DATASETS.items()
    if line.cell_table
}
EXPECTED = {name: line.sha256 for name, line in {**SAMPLES, **DATASETS}.items()}
EXPECTED |= {
    f"cells_of_{name}": line.cell_table_sha256 for name, line in DATASETS.items()
}
RESERVED = {"corpus", CONFIG.corpus.name, *TABLES_OF_GENES, *TABLES_OF_CELLS}
TAKEN = sorted(
    {*SAMPLES} & {*TABLES_OF_GENES}
    or (RESERVED | {*SAMPLES}) & {*DATASETS}
    or (RESERVED | {*SAMPLES, *DATASETS}) & {*QUERIES}
)
if TAKEN:
    raise WorkflowError(
        f"{CONFIG.datasets}, {CONFIG.corpus.samples} or {CONFIG.queries} has a line '{TAKEN[0]}', "
        "but another of these tables, or the corpus for its own files, uses that name too, and one "
        "would overwrite the other. Rename it."
    )
FILES = {**TABLES_OF_GENES, **TABLES_OF_CELLS, **CELLS}
FETCHED = {
    name: fetched_suffix(file, CELL_FILES if name in CELLS else TABLES)
    for name, file in FILES.items()
    if is_fetched(file)
}
FROM_PANGLAODB = CONFIG.corpus.source == "panglaodb"
SEEDS = CONFIG.finetune.seeds
SCATTERED = [name for name, line in QUERIES.items() if line.scattered == "yes"]
SOURCES_OF_QUERIES = {name: line.file for name, line in QUERIES.items()}
MODELS_OF_QUERIES = {name: line.model for name, line in QUERIES.items()}
PAGES = [f"results/reports/{name}.html" for name in DATASETS if len(DATASETS) > 1]
CORPUS_FIGURES = ["tokens", "gene2vec", "gene2vec_quality", "pretraining"]
DATASET_FIGURES = [
    "scores",
    "confusion",
    "per_type",
    "finetuning",
    "umap",
    "reliability",
    "unknown",
]
EXPLANATION_FIGURES = ["heatmap", "deletion"]


def settings_json(step, **more):
    """The settings of a step, as the JSON that its script reads."""
    return settings_for(step, CONFIG, **more).model_dump_json()


def read_settings(wildcards):
    """Settings of read_counts."""
    line = {**SAMPLES, **DATASETS}.get(wildcards.source)
    return settings_json(
        settings_of.ReadSettings,
        sample=wildcards.source,
        source=FILES.get(wildcards.source, "PanglaoDB"),
        matrix=line.matrix if line else "auto",
        scale=line.scale if line else "auto",
        dataset=DATASETS.get(wildcards.source),
        leave_out=wildcards.source not in FILES,
    )


def sha256_here(pattern):
    """What a table expects of a file that lies here; one that is fetched is checked by then."""

    def expected(wildcards):
        name = pattern.format(wildcards.source)
        return "" if name in FETCHED else EXPECTED.get(name, "")

    return expected


def fetch_settings(wildcards):
    """Settings of fetch_dataset and fetch_mtx."""
    return Untracked(
        settings_json(
            settings_of.SourceSettings,
            source=FILES[wildcards.source],
            sha256=sha256_of_source(wildcards),
        )
    )


def sha256_of_source(wildcards):
    """What the table of its line expects of a file that is fetched."""
    return EXPECTED.get(wildcards.source, "")


def source_of(wildcards):
    """Where a fetched file comes from."""
    return FILES[wildcards.source]


def sample_settings(wildcards):
    """Settings of the downloads of a PanglaoDB sample."""
    return Untracked(
        settings_json(
            settings_of.SampleSettings,
            sample=f"{wildcards.sra}_{wildcards.srs}",
            panglaodb=CONFIG.corpus.panglaodb,
        )
    )


def tables_settings(wildcards):
    """Settings of the download of PanglaoDB's tables."""
    return Untracked(
        settings_json(settings_of.PanglaoDBSettings, panglaodb=CONFIG.corpus.panglaodb)
    )


def panglaodb_settings(wildcards):
    """Settings of the choice of samples; a function, because {sra} in them is not a wildcard."""
    return CONFIG.corpus.panglaodb.model_dump_json()


def checkpoint_of_finetuning(wildcards):
    """Where fine-tuning keeps its state."""
    return Untracked(f"{CHECKPOINTS}/finetune/{wildcards.dataset}/seed{wildcards.seed}")


def query_settings(wildcards):
    """Settings of the steps that annotate a query."""
    line = QUERIES[wildcards.query].model_dump()
    return settings_json(
        settings_of.QuerySettings,
        **{key: line[key] for key in settings_of.QuerySettings.model_fields},
    )


def resolved_config(wildcards):
    """The whole configuration."""
    return CONFIG.model_dump_json()


def finetune_settings(wildcards):
    """Settings of finetune_training_cells, with its own seed alone: one more seed trains no other again."""
    seed = int(wildcards.seed)
    own = CONFIG.finetune.model_copy(update={"seeds": (seed,)})
    return settings_json(settings_of.FinetuneSettings, seed=seed, finetune=own)


if not AS_MODULE:  # for report/workflow.rst; the rules have CONFIG
    config["about"] = {
        "version": SCBERT,
        "commit": COMMIT or "not in a git repository",
        "folder": os.getcwd(),
        "machine": platform.node(),
        "snakemake": SNAKEMAKE,
    }
