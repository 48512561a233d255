# PanglaoDB: its tables, the choice of samples, two files per sample. Outputs are marked as updated:
# Snakemake must not remove a whole file after a run that was killed; the step checks it instead.


rule fetch_panglaodb_tables:
    input:
        script=workflow.source_path("../scripts/fetch_panglaodb_tables.py"),
    output:
        metadata=update("resources/panglaodb/metadata.txt"),
        cluster_sizes=update("resources/panglaodb/clusters_to_number_of_cells.txt"),
        cell_types=update("resources/panglaodb/cell_type_annotations.txt"),
        markers=update("resources/panglaodb/markers.tsv.gz"),
    log:
        "logs/fetch_panglaodb_tables.log",
    benchmark:
        "results/benchmarks/fetch_panglaodb_tables.tsv"
    retries: 3
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=30,
        download=1,  # --resources download=N: at most N at a time
    params:
        settings=tables_settings,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --metadata {output.metadata:q}"
        " --cluster-sizes {output.cluster_sizes:q} --cell-types {output.cell_types:q}"
        " --markers {output.markers:q} --settings {params.settings:q} > {log:q} 2>&1"


checkpoint select_samples:
    input:
        metadata="resources/panglaodb/metadata.txt",
        cluster_sizes="resources/panglaodb/clusters_to_number_of_cells.txt",
        exclusions=beside(found(CONFIG.corpus.panglaodb.exclusions)),
        script=workflow.source_path("../scripts/select_samples.py"),
    output:
        samples="results/corpus/samples.tsv",
    log:
        "logs/select_samples.log",
    benchmark:
        "results/benchmarks/select_samples.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=panglaodb_settings,
        code=code("steps/select_samples.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --metadata {input.metadata:q}"
        " --cluster-sizes {input.cluster_sizes:q} --exclusions {input.exclusions:q}"
        " --samples {output.samples:q} --settings {params.settings:q} > {log:q} 2>&1"


rule fetch_panglaodb:
    input:
        script=workflow.source_path("../scripts/fetch_panglaodb.py"),
    output:
        counts=update("resources/panglaodb/{sra}_{srs}.sparse.RData"),
    log:
        "logs/fetch_panglaodb/{sra}_{srs}.log",
    benchmark:
        "results/benchmarks/fetch_panglaodb/{sra}_{srs}.tsv"
    wildcard_constraints:
        sra=r"SRA\d+",
        srs=r"\w+",
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
        settings=sample_settings,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {output.counts:q} --settings {params.settings:q}"
        " > {log:q} 2>&1"


rule fetch_panglaodb_clusters:
    input:
        script=workflow.source_path("../scripts/fetch_panglaodb_clusters.py"),
    output:
        clusters=update("resources/panglaodb/{sra}_{srs}.clusters.txt"),
    log:
        "logs/fetch_panglaodb_clusters/{sra}_{srs}.log",
    benchmark:
        "results/benchmarks/fetch_panglaodb_clusters/{sra}_{srs}.tsv"
    wildcard_constraints:
        sra=r"SRA\d+",
        srs=r"\w+",
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
        settings=sample_settings,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --clusters {output.clusters:q} --settings {params.settings:q}"
        " > {log:q} 2>&1"
