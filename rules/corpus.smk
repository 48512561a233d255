# From files of cells to counts, and the choice of cells.


rule fetch_dataset:
    input:
        script=workflow.source_path("../scripts/fetch_dataset.py"),
    output:
        file="resources/{source}.{suffix}",
    log:
        "logs/fetch_dataset/{source}.{suffix}.log",
    benchmark:
        "results/benchmarks/fetch_dataset/{source}.{suffix}.tsv"
    wildcard_constraints:
        suffix="h5ad|csv",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=fetch_settings,
        code=code("steps/read.py"),
    shell:
        "python {input.script} --target {output.file} --settings {params.settings:q}"
        " > {log} 2>&1"


rule read_counts:
    input:
        cells=cells_file,
        script=workflow.source_path("../scripts/read_counts.py"),
    output:
        counts="results/counts/{source}.h5ad",
        quality="results/counts/{source}.json",
    log:
        "logs/read_counts/{source}.log",
    benchmark:
        "results/benchmarks/read_counts/{source}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=read_settings,
        code=code("cells/*.py", "steps/read.py"),
    shell:
        "python {input.script} --cells {input.cells} --counts {output.counts}"
        " --quality {output.quality} --settings {params.settings:q} > {log} 2>&1"


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
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=CONFIG.split.model_dump_json(),
        code=code("cells/*.py", "steps/read.py"),
    shell:
        "python {input.script} --counts {input.counts} --split {output.split}"
        " --settings {params.settings:q} > {log} 2>&1"


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
        mem_mb=4000,
        runtime=30,
    params:
        code=code("cells/*.py", "steps/read.py"),
    shell:
        "python {input.script} --counts {input.counts} --split {input.split}"
        " --training-cells {output.training_cells} > {log} 2>&1"
