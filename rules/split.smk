# Train, validation and test cells of a dataset, and those that join the corpus.


rule split_cells:
    input:
        counts="results/counts/{dataset}.h5ad",
        script=workflow.source_path("../scripts/split_cells.py"),
    output:
        split="results/splits/{dataset}.tsv",
    log:
        "logs/split_cells/{dataset}.log",
    benchmark:
        "results/benchmarks/split_cells/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=CONFIG.split.model_dump_json(),
        code=code("steps/split_cells.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --split {output.split:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule select_training_cells:
    input:
        counts="results/counts/{dataset}.h5ad",
        split="results/splits/{dataset}.tsv",
        script=workflow.source_path("../scripts/select_training_cells.py"),
    output:
        training_cells="results/counts/{dataset}.train.h5ad",
    log:
        "logs/select_training_cells/{dataset}.log",
    benchmark:
        "results/benchmarks/select_training_cells/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        code=code("steps/select_training_cells.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --split {input.split:q}"
        " --training-cells {output.training_cells:q} > {log:q} 2>&1"
