# From counts to vocabulary, expression and tokens.


rule build_vocabulary:
    input:
        counts=of_corpus("results/counts/{sample}.h5ad"),
        gene_table=local_file("gene_table"),
        gene_list=[local_file("gene_list")] if "gene_list" in FILES else [],
        script=workflow.source_path("../scripts/build_vocabulary.py"),
    output:
        vocabulary="results/vocabulary.tsv",
    log:
        "logs/build_vocabulary.log",
    benchmark:
        "results/benchmarks/build_vocabulary.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        settings=CONFIG.vocabulary.model_dump_json(),
        code=code("steps/build_vocabulary.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --gene-table {input.gene_table:q}"
        " --gene-list {input.gene_list:q} --vocabulary {output.vocabulary:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule normalize_counts:
    input:
        counts="results/counts/{sample}.h5ad",
        vocabulary="results/vocabulary.tsv",
        script=workflow.source_path("../scripts/normalize_counts.py"),
    output:
        expression="results/expression/{sample}.h5ad",
        overlap="results/expression/{sample}.json",
    log:
        "logs/normalize_counts/{sample}.log",
    benchmark:
        "results/benchmarks/normalize_counts/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        settings=CONFIG.normalization.model_dump_json(),
        code=code("steps/normalize_counts.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --vocabulary {input.vocabulary:q}"
        " --expression {output.expression:q} --overlap {output.overlap:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule bin_expression:
    input:
        expressions=expressions_of_store,
        vocabulary="results/vocabulary.tsv",
        script=workflow.source_path("../scripts/bin_expression.py"),
    output:
        tokens=directory("results/tokens/{store}"),
    log:
        "logs/bin_expression/{store}.log",
    benchmark:
        "results/benchmarks/bin_expression/{store}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        settings=CONFIG.binning.model_dump_json(),
        code=code("steps/bin_expression.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --expressions {input.expressions:q}"
        " --vocabulary {input.vocabulary:q} --tokens {output.tokens:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"
