# Which files a rule reads, where that depends on the configuration, and figures as outputs.
from scbert.shipped import BLOOD, model_folder


wildcard_constraints:
    source=r"[\w-]+",
    dataset=r"[\w-]+",
    sample=r"[\w-]+(\.train)?",
    store=r"[\w-]+",
    seed=r"\d+",
    task=r"[\w.-]+",
    method=r"[\w-]+",
    query=r"[\w-]+",


def local_file(source):
    """Where a file is read: where it lies, or below resources/ if it is fetched first."""
    if source in FETCHED:
        return f"resources/{source}{FETCHED[source]}"
    return beside(found(FILES[source]))


def cells_file(wildcards):
    """The file with the cells of a dataset or of a sample of the corpus."""
    if wildcards.source not in FILES and FROM_PANGLAODB:
        return f"resources/panglaodb/{wildcards.source}.sparse.RData"
    if wildcards.source in JOINED:
        return f"results/joined/{wildcards.source}.h5ad"
    return local_file(wildcards.source)


def cell_table_of(wildcards):
    """The table of the cells of a dataset, if it has one."""
    table = f"cells_of_{wildcards.source}"
    return local_file(table) if table in FILES else []


def types_of(wildcards):
    """The table of common names of the types of a dataset, if it has one."""
    line = DATASETS.get(wildcards.source)
    return beside(found(line.types)) if line and line.types else []


def counts_to_join(wildcards):
    """The counts of the datasets that another one is made of."""
    return expand("results/counts/{part}.h5ad", part=JOINED[wildcards.source])


def of_panglaodb(pattern):
    """An input function: a file beside a sample of PanglaoDB, and none for other sources."""

    def paths(wildcards):
        from_panglaodb = wildcards.source not in FILES and FROM_PANGLAODB
        return pattern.format(source=wildcards.source) if from_panglaodb else []

    return paths


def ontology_of(wildcards):
    """The table of Cell Ontology ids of a dataset, if it has one."""
    ontology = DATASETS[wildcards.dataset].ontology
    return beside(found(ontology)) if ontology else []


def rows_of(table):
    """The rows of a small table that a rule wrote, separated by tabs."""
    with open(table) as lines:
        header, *rows = (line.rstrip("\n").split("\t") for line in lines)
    return [dict(zip(header, row)) for row in rows]


def unlabelled_samples():
    """Samples of the corpus: the chosen ones of PanglaoDB, or those of the configuration."""
    if not FROM_PANGLAODB:
        return list(SAMPLES)
    rows = rows_of(checkpoints.select_samples.get().output.samples)
    return [row["sample"] for row in rows if row["included"] == "yes"]


def corpus_samples():
    """The unlabelled samples, and the training cells of the datasets that join them."""
    return unlabelled_samples() + [
        f"{name}.train" for name, dataset in DATASETS.items() if dataset.joins_corpus
    ]


def of_corpus(pattern):
    """An input function: one path for each sample of the corpus."""

    def paths(wildcards):
        return expand(pattern, sample=corpus_samples())

    return paths


def of_samples_and_datasets(pattern):
    """An input function: one path for each file of cells that is read."""

    def paths(wildcards):
        return expand(pattern, sample=[*unlabelled_samples(), *DATASETS])

    return paths


def expressions_of_store(wildcards):
    """The files of expression that a token store is made of."""
    of_the_corpus = wildcards.store == CONFIG.corpus.name
    samples = corpus_samples() if of_the_corpus else [wildcards.store]
    return expand("results/expression/{sample}.h5ad", sample=samples)


def corpus_figure(name, title):
    """A figure of the corpus, also for `snakemake --report`."""
    return report(
        f"results/figures/corpus/{name}.svg",
        caption=f"../report/{name}.rst",
        category="Corpus and pretraining",
        labels={"figure": title},
    )


def dataset_figure(name, title):
    """A figure of a dataset, also for `snakemake --report`."""
    return report(
        f"results/figures/{{dataset}}/{name}.svg",
        caption=f"../report/{name}.rst",
        category="Datasets",
        subcategory="{dataset}",
        labels={"figure": title},
    )


def explanation_figure(name, title, **labels):
    """A figure of an explanation; in `snakemake --report` a label of two values is a switch."""
    return report(
        f"results/explanations/{{dataset}}/{name}.svg",
        caption=f"../report/{name}.rst",
        category="Explanations",
        subcategory=f"{{dataset}}: {title}",
        labels={"figure": title, **labels},
    )


def evidence_of(datasets):
    """What a report over these datasets reads."""
    figures = expand(
        "results/figures/{dataset}/{figure}.svg",
        dataset=datasets,
        figure=DATASET_FIGURES,
    )
    figures += expand(
        "results/explanations/{dataset}/{figure}.svg",
        dataset=datasets,
        figure=EXPLANATION_FIGURES,
    )
    return {
        "evaluations": expand(
            "results/metrics/{dataset}/evaluation.json", dataset=datasets
        ),
        "comparisons": expand(
            "results/metrics/{dataset}/comparison.json", dataset=datasets
        ),
        "dataset_figures": figures,
        "explanations": expand(
            "results/explanations/{dataset}/explanation.json", dataset=datasets
        ),
        "corpus_figures": expand(
            "results/figures/corpus/{figure}.svg", figure=CORPUS_FIGURES
        ),
        "quality": "results/corpus/quality.tsv",
        "overlaps": of_samples_and_datasets("results/expression/{sample}.json"),
        "stores": expand(
            "results/tokens/{store}", store=[CONFIG.corpus.name, *DATASETS]
        ),
        "gene2vec": "results/gene2vec",
        "gene2vec_quality": "results/gene2vec_quality.json",
        "pretrained": "results/pretrained",
        "config": "results/config.json",
    }


def meta_of_stores(wildcards, input):
    """The description in each token store: a store itself is a folder."""
    return [f"{store}/meta.json" for store in input.stores]


def one_of(names):
    """A pattern for one of these names and nothing else."""
    return "|".join(names) or "(?!)"


def file_of_query(wildcards):
    """The file with the cells of a query."""
    return local_file(wildcards.query)


def manifest_of_query(wildcards):
    """What changes with the model of a query: one of the package, of this run, or a folder."""
    folder = model_folder(QUERIES[wildcards.query].model)
    return beside(str(folder / "MANIFEST.sha256"))


def model_files(dataset, seed):
    """What finetune_training_cells writes: a job whose files come from a storage gets no folder."""
    names = ["MANIFEST.sha256", "weights.safetensors", "config.json", "genes.tsv"]
    names += ["labels.json", "calibration.json", "principal_components.safetensors"]
    names += ["training_cells.safetensors", "history.jsonl"]
    names += ["experts.safetensors"] * (set(CONFIG.finetune.experts) != {"encoder"})
    return [f"results/models/{dataset}/seed{seed}/{name}" for name in names]


def models_of_run():
    """The folders of the models that this run makes: dataset and seed of each."""
    return {
        f"results/models/{dataset}/seed{seed}": {"dataset": dataset, "seed": seed}
        for dataset in DATASETS
        for seed in SEEDS
    }


def model_of_query(wildcards):
    """All files of the model of a query; those of this run as they are before its card is written."""
    folder = model_folder(QUERIES[wildcards.query].model)
    made = models_of_run().get(str(folder))
    if made:
        return model_files(**made)
    return [beside(str(file)) for file in sorted(folder.iterdir()) if file.is_file()]


def require_models():
    """Refuse a model that neither exists nor is made by this run."""
    made = models_of_run()
    for name, line in QUERIES.items():
        folder = model_folder(line.model)
        if str(folder) not in made and not (folder / "MANIFEST.sha256").is_file():
            raise WorkflowError(
                f"{CONFIG.queries}: the model of '{name}' is '{line.model}', but there is no model "
                f"in that folder. Give {BLOOD}, which comes with the package, a model of this "
                f"run ({', '.join(made)}), or the folder of another one."
            )


def folders_of_models(wildcards, input):
    """The folder of each model, also where its files were fetched from a storage."""
    return [str(Path(manifest).parent) for manifest in input.manifests]


ROOM = "results/benchmark/{dataset}/seed{seed}"


def counts_of_set(wildcards):
    """The counts of a dataset, or of the two of a transfer."""
    return expand(
        "results/counts/{source}.h5ad", source=BENCHMARK_SETS[wildcards.dataset]
    )


def answers_of_set(wildcards):
    """What each method answered to each task of a dataset, and how that went."""
    tasks = checkpoints.make_benchmark_tasks.get(**wildcards).output.tasks
    lines = rows_of(f"{tasks}/tasks.tsv")
    return [
        path.format(method=name, task=line["task"])
        for name, method in METHODS.items()
        for line in lines
        if line["task"] and method.is_asked(line["protocol"])
        for path in ("answers/{method}/{task}.tsv", "runs/{method}/{task}.json")
    ]


def in_room(paths):
    """An input function: paths in the folder of a dataset and seed."""

    def found(wildcards):
        room = ROOM.format(**wildcards)
        return [f"{room}/{path}" for path in paths(wildcards)]

    return found


def file_of_task(wildcards, input):
    """The table of the cells of a task."""
    return f"{input.tasks}/{wildcards.task}.tsv"


def folder_of_method(wildcards):
    """The folder with predict.py."""
    return found(METHODS[wildcards.method].folder)


def environment_of_method(wildcards):
    """The conda environment of a method; a second one for GPUs is used if the method has it."""
    file, for_gpus = (
        Path(folder_of_method(wildcards), name).absolute()
        for name in ("environment.yaml", "environment_gpu.yaml")
    )
    return str(
        for_gpus if gpus_of("run_benchmark_method") and for_gpus.exists() else file
    )


def options_of_method(wildcards):
    """Further words for the command line of predict.py."""
    return METHODS[wildcards.method].options


def python_of_method(wildcards):
    """The Python of the environment of a method, where conda is not used."""
    return CONFIG.benchmark.python.get(wildcards.method, "python")


def code_of_method(wildcards):
    """A hash of what predict.py uses of scbert: an edit there runs the method again."""
    return code_of_program(f"{folder_of_method(wildcards)}/predict.py")


def files_of_method(wildcards):
    """The files of the folder of a method: an edit runs it again."""
    folder = Path(folder_of_method(wildcards))
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [beside(str(file)) for file in files if "__pycache__" not in file.parts]


def qualities_of_benchmark(wildcards):
    """What read_counts wrote of each file of cells of the benchmark."""
    sources = dict.fromkeys(name for pair in BENCHMARK_SETS.values() for name in pair)
    return expand("results/counts/{source}.json", source=sources)


def mixing_of_benchmark(wildcards):
    """How batches mix in each dataset that names them, if that is to be measured."""
    sets = [sources[0] for sources in BENCHMARK_SETS.values() if len(sources) == 1]
    asked = [name for name in sets if DATASETS[name].batch_key]
    files = expand("results/benchmark/{source}/batch_mixing.tsv", source=asked)
    return files if CONFIG.benchmark.batch_mixing else []


def warn_of_methods_left_out():
    """A method that was added to the table is else missed on the page only."""
    left_out = [
        name
        for name, one in ALL_METHODS.items()
        if one.optional == "no" and name not in METHODS
    ]
    if left_out and workflow.is_main_process:
        logger.warning(
            f"The benchmark leaves out {', '.join(left_out)}: {CONFIG.benchmark.methods} lists more "
            "methods than benchmark.chosen. Name them there, or give chosen: [] for all but the "
            "optional ones."
        )


def tell_of_failed_methods():
    """Said after a run that asked for the page: its jobs end well also where a method failed."""
    page, table = Path("results/benchmark.html"), Path("results/benchmark.tsv")
    asked = any(str(page) in job.output for job in workflow.dag.jobs)
    if not (asked and table.exists()):
        return
    failed = [row["method"] for row in rows_of(table) if row["exit"] != "0"]
    if failed:
        logger.warning(
            f"Missing scores: {len(failed)}, because methods failed "
            f"({', '.join(dict.fromkeys(failed))}). The reasons are in {page}."
        )


def benchmark_command(wildcards):
    """What runs the benchmark again: for the page, hence no reason to write it again."""
    words = ["snakemake", "benchmark"]
    for file in map(Path, workflow.configfiles):
        here = file.is_relative_to(CHECKOUT)
        name = str(file.relative_to(CHECKOUT) if here else file)
        if name != "config/config.yaml":  # which is always read
            words += ["--configfile" if len(words) == 2 else "", name]
    given = workflow.config_settings.config_args
    return Untracked(
        shlex.join(filter(None, [*words, *(["--config", *given] if given else [])]))
    )


def files_of_earlier_run():
    """What is read of the benchmark that this one is held against."""
    folder = CONFIG.benchmark.against
    return (
        [f"{folder}/{name}" for name in ("benchmark.json", "labels.tsv.gz")]
        if folder
        else []
    )


def files_of_workflow():
    """The files of the workflow, for the record of a run: rules, scripts, tables, environments."""
    folders = ("rules", "scripts", "config", "envs")
    files = [file for name in folders for file in (CHECKOUT / name).rglob("*")]
    kinds = {".smk", ".py", ".yaml", ".tsv", ".json"}
    return [
        beside(str(file))
        for file in sorted(files)
        if file.suffix in kinds and "__pycache__" not in file.parts
    ]
