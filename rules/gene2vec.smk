# Vectors of genes from their co-expression in the corpus.


rule train_gene2vec:
    input:
        expressions=of_corpus("results/expression/{sample}.h5ad"),
        vocabulary="results/vocabulary.tsv",
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
        runtime=240,
    params:
        settings=CONFIG.gene2vec.model_dump_json(),
        code=code("steps/gene2vec.py"),
    shell:
        "python {input.script} --expressions {input.expressions} --vocabulary {input.vocabulary}"
        " --gene2vec {output.gene2vec} --settings {params.settings:q} > {log} 2>&1"
