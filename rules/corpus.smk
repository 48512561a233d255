# From files of cells to counts.


rule fetch_dataset:
    input:
        script=workflow.source_path("../scripts/fetch_dataset.py"),
    output:
        file=update("resources/{source}.{suffix}"),  # kept after a kill, and checked by the step
    log:
        "logs/fetch_dataset/{source}.{suffix}.log",
    benchmark:
        "results/benchmarks/fetch_dataset/{source}.{suffix}.tsv"
    wildcard_constraints:
        source="|".join(name for name in FETCHED if FETCHED[name]) or "(?!)",  # never a user's file
        suffix="h5ad|h5|csv|parquet|tsv|txt|gmt|gz",
    retries: 3
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
        download=1,  # --resources download=N: at most N at a time
    params:
        settings=fetch_settings,
        source=source_of,
        sha256=sha256_of_source,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --target {output.file:q} --settings {params.settings:q}"
        " > {log:q} 2>&1"


rule fetch_mtx:
    input:
        script=workflow.source_path("../scripts/fetch_mtx.py"),
    output:
        folder=directory("resources/{source}"),
    log:
        "logs/fetch_mtx/{source}.log",
    benchmark:
        "results/benchmarks/fetch_mtx/{source}.tsv"
    wildcard_constraints:
        source="|".join(name for name in FETCHED if not FETCHED[name]) or "(?!)",
    retries: 3
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
        download=1,
    params:
        settings=fetch_settings,
        source=source_of,
        sha256=sha256_of_source,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --folder {output.folder:q} --settings {params.settings:q}"
        " > {log:q} 2>&1"


rule read_counts:
    input:
        cells=cells_file,
        clusters=of_panglaodb("resources/panglaodb/{source}.clusters.txt"),
        annotations=of_panglaodb("resources/panglaodb/cell_type_annotations.txt"),
        cell_table=cell_table_of,
        types=types_of,
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
        runtime=per_attempt(30),
    params:
        settings=read_settings,
        sha256=sha256_here("{}"),
        cell_table_sha256=sha256_here("cells_of_{}"),
        code=code("steps/read_counts.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --cells {input.cells:q} --clusters {input.clusters:q}"
        " --annotations {input.annotations:q} --cell-table {input.cell_table:q}"
        " --types {input.types:q} --counts {output.counts:q}"
        " --quality {output.quality:q} --settings {params.settings:q}"
        " --sha256={params.sha256:q} --cell-table-sha256={params.cell_table_sha256:q}"
        " > {log:q} 2>&1"


rule join_datasets:
    input:
        counts=counts_to_join,
        script=workflow.source_path("../scripts/join_datasets.py"),
    output:
        joined="results/joined/{source}.h5ad",
    log:
        "logs/join_datasets/{source}.log",
    benchmark:
        "results/benchmarks/join_datasets/{source}.tsv"
    wildcard_constraints:
        source=one_of(JOINED),
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        code=code("steps/join_datasets.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --joined {output.joined:q}"
        " > {log:q} 2>&1"


rule summarize_quality:
    input:
        qualities=of_samples_and_datasets("results/counts/{sample}.json"),
        script=workflow.source_path("../scripts/summarize_quality.py"),
    output:
        table="results/corpus/quality.tsv",
    log:
        "logs/summarize_quality.log",
    benchmark:
        "results/benchmarks/summarize_quality.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=code("steps/summarize_quality.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --qualities {input.qualities:q} --table {output.table:q}"
        " > {log:q} 2>&1"
