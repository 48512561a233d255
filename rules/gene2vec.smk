# Vectors of genes from their co-expression in the corpus, and what they know.


rule find_pairs:
    input:
        expression="results/expression/{sample}.h5ad",
        vocabulary="results/vocabulary.tsv",
        script=workflow.source_path("../scripts/find_pairs.py"),
    output:
        pairs="results/pairs/{sample}.npy",
    log:
        "logs/find_pairs/{sample}.log",
    benchmark:
        "results/benchmarks/find_pairs/{sample}.tsv"
    conda:
        "../envs/gene2vec.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        settings=CONFIG.pairs.model_dump_json(),
        code=code("steps/find_pairs.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --expression {input.expression:q}"
        " --vocabulary {input.vocabulary:q} --pairs {output.pairs:q} --settings {params.settings:q}"
        " > {log:q} 2>&1"


rule train_gene2vec:
    input:
        pairs=[] if IMPORTED else of_corpus("results/pairs/{sample}.npy"),
        vocabulary="results/vocabulary.tsv",
        imported=[local_file(name) for name in IMPORTED],
        script=workflow.source_path("../scripts/train_gene2vec.py"),
    output:
        gene2vec=directory("results/gene2vec"),
    log:
        "logs/train_gene2vec.log",
    benchmark:
        "results/benchmarks/train_gene2vec.tsv"
    conda:
        "../envs/gene2vec.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(240),
    params:
        settings=CONFIG.gene2vec.model_dump_json(),
        code=code("steps/train_gene2vec.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --pairs {input.pairs:q} --vocabulary {input.vocabulary:q}"
        " --imported {input.imported:q} --gene2vec {output.gene2vec:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule evaluate_gene2vec:
    input:
        gene2vec="results/gene2vec",
        pairs=[] if IMPORTED else of_corpus("results/pairs/{sample}.npy"),
        vocabulary="results/vocabulary.tsv",
        gene_sets=[local_file(name) for name in GENE_SETS],
        labelled_pairs=[local_file(name) for name in LABELLED_PAIRS],
        script=workflow.source_path("../scripts/evaluate_gene2vec.py"),
    output:
        quality="results/gene2vec_quality.json",
    log:
        "logs/evaluate_gene2vec.log",
    benchmark:
        "results/benchmarks/evaluate_gene2vec.tsv"
    conda:
        "../envs/gene2vec.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(240),
    params:
        settings=CONFIG.gene2vec_quality.model_dump_json(),
        code=code("steps/evaluate_gene2vec.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --gene2vec {input.gene2vec:q} --pairs {input.pairs:q}"
        " --vocabulary {input.vocabulary:q} --gene-sets {input.gene_sets:q}"
        " --labelled-pairs {input.labelled_pairs:q} --quality {output.quality:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"
