# Masked-expression pretraining. A stopped run continues from its checkpoint.


rule pretrain:
    input:
        tokens=expand("results/tokens/{store}", store=CONFIG.corpus.name),
        vocabulary="results/vocabulary.tsv",
        gene2vec="results/gene2vec",
        script=workflow.source_path("../scripts/pretrain.py"),
    output:
        pretrained=directory("results/pretrained"),
    log:
        "logs/pretrain.log",
    benchmark:
        "results/benchmarks/pretrain.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        mem_mb=per_attempt(6000),
        runtime=1440,
    params:
        settings=settings_for(settings_of.PretrainSettings, CONFIG),
        checkpoint="results/checkpoints/pretrain",  # an output would be deleted before a rerun
    shell:
        "python {input.script} --tokens {input.tokens} --vocabulary {input.vocabulary}"
        " --gene2vec {input.gene2vec} --pretrained {output.pretrained}"
        " --checkpoint {params.checkpoint} --settings {params.settings:q} > {log} 2>&1"
