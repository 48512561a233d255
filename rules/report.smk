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
        "printf '%s\\n' {params.config:q} > {output.config:q} 2> {log:q}"


rule write_report:
    input:
        **evidence_of(DATASETS),
        script=workflow.source_path("../scripts/write_report.py"),
    output:
        report=report(
            "results/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "all datasets"},
        ),
    log:
        "logs/write_report.log",
    benchmark:
        "results/benchmarks/write_report.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        stores=meta_of_stores,
        benchmarks="results/benchmarks",
        code=code(
            "steps/write_report.py", "report/report.html.jinja", "report/page.css"
        ),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --evaluations {input.evaluations:q}"
        " --comparisons {input.comparisons:q} --explanations {input.explanations:q}"
        " --dataset-figures {input.dataset_figures:q} --corpus-figures {input.corpus_figures:q}"
        " --quality {input.quality:q} --overlaps {input.overlaps:q} --stores {params.stores:q}"
        " --gene2vec {input.gene2vec:q}/meta.json --gene2vec-quality {input.gene2vec_quality:q}"
        " --validation {input.pretrained:q}/validation.json --benchmarks {params.benchmarks:q}"
        " --config {input.config:q} --report {output.report:q} > {log:q} 2>&1"


use rule write_report as write_dataset_report with:
    input:
        **evidence_of(["{dataset}"]),
        script=workflow.source_path("../scripts/write_report.py"),
    output:
        report=report(
            "results/reports/{dataset}.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "{dataset}"},
        ),
    log:
        "logs/write_dataset_report/{dataset}.log",
    benchmark:
        "results/benchmarks/write_dataset_report/{dataset}.tsv"
