# PanglaoDB: its table, the choice of samples, one file per sample.


rule fetch_panglaodb_tables:
    input:
        script=workflow.source_path("../scripts/fetch_panglaodb_tables.py"),
    output:
        metadata="resources/panglaodb/metadata.txt",
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
        runtime=10,
    params:
        settings=panglaodb_settings,
    shell:
        "python {input.script} --metadata {output.metadata} --settings {params.settings:q}"
        " > {log} 2>&1"


checkpoint select_samples:
    input:
        metadata="resources/panglaodb/metadata.txt",
        exclusions=found(CONFIG.corpus.panglaodb.exclusions),
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
        code=code("steps/panglaodb.py"),
    shell:
        "python {input.script} --metadata {input.metadata} --exclusions {input.exclusions}"
        " --samples {output.samples} --settings {params.settings:q} > {log} 2>&1"


rule fetch_panglaodb:
    input:
        script=workflow.source_path("../scripts/fetch_panglaodb.py"),
    output:
        counts="resources/panglaodb/{sra}_{srs}.sparse.RData",
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
        runtime=60,
        download=1,  # --resources download=N: at most N at a time
    params:
        settings=sample_settings,
    shell:
        "python {input.script} --counts {output.counts} --settings {params.settings:q}"
        " > {log} 2>&1"
