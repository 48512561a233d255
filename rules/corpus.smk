# From files of cells to counts.


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
        source="|".join(SHIPPED) or "(?!)",  # never a file that the user put there
        suffix="h5ad|csv|gmt|txt|tsv|gz",
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=fetch_settings,
        code=code("steps/fetch.py"),
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
        mem_mb=per_attempt(4000),
        runtime=30,
    params:
        settings=read_settings,
        code=code("steps/read.py"),
    shell:
        "python {input.script} --cells {input.cells} --counts {output.counts}"
        " --quality {output.quality} --settings {params.settings:q} > {log} 2>&1"
