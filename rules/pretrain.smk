# Masked-expression pretraining. A stopped run continues from its checkpoint. A profile says how many
# GPUs there are (set-resources: pretrain: gpu: 4), or nodes with GPUs (nodes: 2, gres: gpu:4); each GPU
# gets a process of its own.


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
        torch_for("pretrain")
    threads: threads_of("pretrain", 2)
    resources:
        mem_mb=memory_of("pretrain", 6000),  # of each node
        runtime=1440,  # also of a retry, which continues
        gpu=0,
        nodes=1,
    params:
        settings=settings_json(settings_of.PretrainSettings),
        checkpoint=Untracked(  # an output would be deleted before a rerun
            f"{CHECKPOINTS}/pretrain"
        ),
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} PYTHONPATH=$SCBERT_CHECKOUT"
        " python -m scbert.training.launch --device {params.device:q}"
        " --nodes {resources.nodes} {input.script:q} --tokens {input.tokens:q}"
        " --vocabulary {input.vocabulary:q} --gene2vec {input.gene2vec:q}"
        " --pretrained {output.pretrained:q} --checkpoint {params.checkpoint:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"
