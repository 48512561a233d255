# Scores of scBERT on the test cells, and of the baselines and controls beside it.


rule evaluate_test_cells:
    input:
        predictions=expand(
            "results/predictions/{{dataset}}/seed{seed}.h5ad", seed=SEEDS
        ),
        split="results/splits/{dataset}.tsv",
        script=workflow.source_path("../scripts/evaluate_test_cells.py"),
    output:
        evaluation="results/metrics/{dataset}/evaluation.json",
    log:
        "logs/evaluate_test_cells/{dataset}.log",
    benchmark:
        "results/benchmarks/evaluate_test_cells/{dataset}.tsv"
    conda:
        "../envs/benchmark.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        settings=CONFIG.evaluate.model_dump_json(),
        code=code("steps/evaluate_test_cells.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --predictions {input.predictions:q} --split {input.split:q}"
        " --evaluation {output.evaluation:q} --settings {params.settings:q} > {log:q} 2>&1"


rule compare:
    input:
        predictions=expand(
            "results/predictions/{{dataset}}/seed{seed}.h5ad", seed=SEEDS
        ),
        expression="results/expression/{dataset}.h5ad",
        split="results/splits/{dataset}.tsv",
        script=workflow.source_path("../scripts/compare.py"),
    output:
        comparison="results/metrics/{dataset}/comparison.json",
    log:
        "logs/compare/{dataset}.log",
    benchmark:
        "results/benchmarks/compare/{dataset}.tsv"
    conda:
        "../envs/benchmark.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(240),
    params:
        settings=settings_json(settings_of.CompareSettings),
        code=code("steps/compare.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --expression {input.expression:q} --split {input.split:q}"
        " --predictions {input.predictions:q} --comparison {output.comparison:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"
