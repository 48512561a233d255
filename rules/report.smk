# Figures, one page per dataset, and the report over all of them.
CORPUS_FIGURES = ["tokens", "gene2vec", "pretraining"]
DATASET_FIGURES = [
    "scores",
    "confusion",
    "per_type",
    "finetuning",
    "umap",
    "reliability",
]


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


def qualities(wildcards):
    """What reading said of every sample and dataset."""
    samples = [name for name in corpus_samples() if not name.endswith(".train")]
    return expand("results/counts/{sample}.json", sample=[*samples, *DATASETS])


def overlaps(wildcards):
    """Which genes of every sample and dataset are in the vocabulary."""
    samples = [name for name in corpus_samples() if not name.endswith(".train")]
    return expand("results/expression/{sample}.json", sample=[*samples, *DATASETS])


rule draw_corpus_figures:
    input:
        tokens=expand("results/tokens/{store}", store=CONFIG.corpus.name),
        gene2vec="results/gene2vec",
        pretrained="results/pretrained",
        script=workflow.source_path("../scripts/draw_corpus_figures.py"),
    output:
        tokens_figure=corpus_figure("tokens", "Tokens of the corpus"),
        gene2vec_figure=corpus_figure("gene2vec", "Map of gene vectors"),
        pretraining_figure=corpus_figure("pretraining", "Masked-expression pretraining"),
    log:
        "logs/draw_corpus_figures.log",
    benchmark:
        "results/benchmarks/draw_corpus_figures.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("evidence/*.py", "steps/report.py"),
    shell:
        "python {input.script} --tokens {input.tokens}/meta.json --gene2vec {input.gene2vec}"
        " --pretrained {input.pretrained} --tokens-figure {output.tokens_figure}"
        " --gene2vec-figure {output.gene2vec_figure}"
        " --pretraining-figure {output.pretraining_figure} > {log} 2>&1"


rule draw_dataset_figures:
    input:
        evaluation="results/metrics/{dataset}/evaluation.json",
        comparison="results/metrics/{dataset}/comparison.json",
        manifests=expand(
            "results/models/{{dataset}}/seed{seed}/MANIFEST.sha256", seed=SEEDS
        ),
        script=workflow.source_path("../scripts/draw_dataset_figures.py"),
    output:
        scores=dataset_figure("scores", "Scores beside baselines"),
        confusion=dataset_figure("confusion", "Confusion matrix"),
        per_type=dataset_figure("per_type", "Scores per cell type"),
        finetuning=dataset_figure("finetuning", "Fine-tuning curves"),
        umap=dataset_figure("umap", "UMAP of the test cells"),
        reliability=dataset_figure("reliability", "Reliability diagram"),
    log:
        "logs/draw_dataset_figures/{dataset}.log",
    benchmark:
        "results/benchmarks/draw_dataset_figures/{dataset}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        models=expand("results/models/{{dataset}}/seed{seed}", seed=SEEDS),
        code=code("evidence/*.py", "steps/report.py"),
    shell:
        "python {input.script} --evaluation {input.evaluation} --comparison {input.comparison}"
        " --models {params.models} --scores {output.scores} --confusion {output.confusion}"
        " --per-type {output.per_type} --finetuning {output.finetuning} --umap {output.umap}"
        " --reliability {output.reliability} > {log} 2>&1"


rule record_config:
    output:
        config="results/config.json",
    log:
        "logs/record_config.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        config=resolved_config,
    shell:
        "printf '%s\\n' {params.config:q} > {output.config} 2> {log}"


rule report:
    input:
        evaluations=expand(
            "results/metrics/{dataset}/evaluation.json", dataset=DATASETS
        ),
        comparisons=expand(
            "results/metrics/{dataset}/comparison.json", dataset=DATASETS
        ),
        dataset_figures=expand(
            "results/figures/{dataset}/{figure}.svg",
            dataset=DATASETS,
            figure=DATASET_FIGURES,
        ),
        corpus_figures=expand(
            "results/figures/corpus/{figure}.svg", figure=CORPUS_FIGURES
        ),
        qualities=qualities,
        overlaps=overlaps,
        stores=expand("results/tokens/{store}", store=[CONFIG.corpus.name, *DATASETS]),
        gene2vec="results/gene2vec",
        pretrained="results/pretrained",
        config="results/config.json",
        script=workflow.source_path("../scripts/report.py"),
    output:
        report=report(
            "results/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "all datasets"},
        ),
    log:
        "logs/report.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        stores=expand(
            "results/tokens/{store}/meta.json", store=[CONFIG.corpus.name, *DATASETS]
        ),
        benchmarks="results/benchmarks",
        code=code("evidence/*", "steps/report.py"),
    shell:
        "python {input.script} --evaluations {input.evaluations} --comparisons {input.comparisons}"
        " --dataset-figures {input.dataset_figures} --corpus-figures {input.corpus_figures}"
        " --qualities {input.qualities} --overlaps {input.overlaps} --stores {params.stores}"
        " --gene2vec {input.gene2vec}/meta.json --validation {input.pretrained}/validation.json"
        " --benchmarks {params.benchmarks} --config {input.config} --report {output.report}"
        " > {log} 2>&1"


use rule report as report_dataset with:
    input:
        evaluations="results/metrics/{dataset}/evaluation.json",
        comparisons="results/metrics/{dataset}/comparison.json",
        dataset_figures=expand(
            "results/figures/{{dataset}}/{figure}.svg", figure=DATASET_FIGURES
        ),
        corpus_figures=expand(
            "results/figures/corpus/{figure}.svg", figure=CORPUS_FIGURES
        ),
        qualities=qualities,
        overlaps=overlaps,
        stores=expand("results/tokens/{store}", store=[CONFIG.corpus.name, *DATASETS]),
        gene2vec="results/gene2vec",
        pretrained="results/pretrained",
        config="results/config.json",
        script=workflow.source_path("../scripts/report.py"),
    output:
        report=report(
            "results/reports/{dataset}.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "{dataset}"},
        ),
    log:
        "logs/report/{dataset}.log",
