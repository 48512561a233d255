# One page per dataset, and the report over all of them.


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
        )
        + expand(
            "results/explanations/{dataset}/{figure}.svg",
            dataset=DATASETS,
            figure=EXPLANATION_FIGURES,
        ),
        explanations=expand(
            "results/explanations/{dataset}/explanation.json", dataset=DATASETS
        ),
        corpus_figures=expand(
            "results/figures/corpus/{figure}.svg", figure=CORPUS_FIGURES
        ),
        quality="results/corpus/quality.tsv",
        overlaps=of_samples_and_datasets("results/expression/{sample}.json"),
        stores=expand("results/tokens/{store}", store=[CONFIG.corpus.name, *DATASETS]),
        gene2vec="results/gene2vec",
        gene2vec_quality="results/gene2vec_quality.json",
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
    benchmark:
        "results/benchmarks/report.tsv"
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
        code=code("steps/write_report.py", "report/report.html.jinja"),
    shell:
        "python {input.script} --evaluations {input.evaluations} --comparisons {input.comparisons}"
        " --explanations {input.explanations} --dataset-figures {input.dataset_figures}"
        " --corpus-figures {input.corpus_figures}"
        " --quality {input.quality} --overlaps {input.overlaps} --stores {params.stores}"
        " --gene2vec {input.gene2vec}/meta.json"
        " --gene2vec-quality {input.gene2vec_quality} --validation {input.pretrained}/validation.json"
        " --benchmarks {params.benchmarks} --config {input.config} --report {output.report}"
        " > {log} 2>&1"


use rule report as report_dataset with:
    input:
        evaluations="results/metrics/{dataset}/evaluation.json",
        comparisons="results/metrics/{dataset}/comparison.json",
        dataset_figures=expand(
            "results/figures/{{dataset}}/{figure}.svg", figure=DATASET_FIGURES
        )
        + expand(
            "results/explanations/{{dataset}}/{figure}.svg", figure=EXPLANATION_FIGURES
        ),
        explanations="results/explanations/{dataset}/explanation.json",
        corpus_figures=expand(
            "results/figures/corpus/{figure}.svg", figure=CORPUS_FIGURES
        ),
        quality="results/corpus/quality.tsv",
        overlaps=of_samples_and_datasets("results/expression/{sample}.json"),
        stores=expand("results/tokens/{store}", store=[CONFIG.corpus.name, *DATASETS]),
        gene2vec="results/gene2vec",
        gene2vec_quality="results/gene2vec_quality.json",
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
    benchmark:
        "results/benchmarks/report/{dataset}.tsv"
