# Masked-expression pretraining. A stopped run continues from its checkpoint. A profile says how many
# GPUs there are (set-resources: pretrain: gpu: 4); each of several gets a process of its own.


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
        gpu=0,
    params:
        settings=settings_for(settings_of.PretrainSettings, CONFIG),
        checkpoint="results/checkpoints/pretrain",  # an output would be deleted before a rerun
        device=DEVICE,
    shell:
        "launch=python; if [ {resources.gpu} -gt 1 ]; then"
        " launch='python -m torch.distributed.run --standalone --nproc-per-node={resources.gpu}'; fi;"
        " SCBERT_GPUS={resources.gpu} $launch {input.script} --tokens {input.tokens} --vocabulary {input.vocabulary}"
        " --gene2vec {input.gene2vec} --pretrained {output.pretrained}"
        " --checkpoint {params.checkpoint} --settings {params.settings:q}"
        " --device {params.device} > {log} 2>&1"
