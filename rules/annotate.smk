# Fine-tuning, annotation of the test cells, and the card of each model.


rule finetune:
    input:
        tokens="results/tokens/{dataset}",
        split="results/splits/{dataset}.tsv",
        pretrained="results/pretrained",
        ontology=ontology_of,
        script=workflow.source_path("../scripts/finetune.py"),
    output:
        manifest="results/models/{dataset}/seed{seed}/MANIFEST.sha256",
        weights="results/models/{dataset}/seed{seed}/weights.safetensors",
        config="results/models/{dataset}/seed{seed}/config.json",
        genes="results/models/{dataset}/seed{seed}/genes.tsv",
        labels="results/models/{dataset}/seed{seed}/labels.json",
        calibration="results/models/{dataset}/seed{seed}/calibration.json",
        experts=branch(
            set(CONFIG.finetune.experts) != {"encoder"},
            then="results/models/{dataset}/seed{seed}/experts.safetensors",
            otherwise=[],
        ),
        components="results/models/{dataset}/seed{seed}/principal_components.safetensors",
        seen="results/models/{dataset}/seed{seed}/training_cells.safetensors",
        history="results/models/{dataset}/seed{seed}/history.jsonl",
    log:
        "logs/finetune/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/finetune/{dataset}/seed{seed}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: threads_of("finetune", 1)
    resources:
        mem_mb=memory_of("finetune", 4000),
        runtime=720,
        gpu=0,
    params:
        settings=finetune_settings,
        model=subpath(output.manifest, parent=True),
        checkpoint="results/checkpoints/finetune/{dataset}/seed{seed}",
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} python {input.script} --tokens {input.tokens} --split {input.split}"
        " --pretrained {input.pretrained} --ontology {input.ontology} --model {params.model}"
        " --checkpoint {params.checkpoint} --settings {params.settings:q}"
        " --device {params.device} > {log} 2>&1"


rule annotate:
    input:
        counts="results/counts/{dataset}.h5ad",
        split="results/splits/{dataset}.tsv",
        manifest="results/models/{dataset}/seed{seed}/MANIFEST.sha256",
        script=workflow.source_path("../scripts/annotate.py"),
    output:
        predictions="results/predictions/{dataset}/seed{seed}.h5ad",
    log:
        "logs/annotate/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/annotate/{dataset}/seed{seed}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: threads_of("annotate", 1)
    resources:
        mem_mb=memory_of("annotate", 4000),
        runtime=240,
        gpu=0,
    params:
        model=subpath(input.manifest, parent=True),
        code=code("steps/annotate_test_cells.py"),
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} python {input.script} --counts {input.counts} --split {input.split}"
        " --model {params.model} --predictions {output.predictions} --device {params.device}"
        " > {log} 2>&1"


rule write_model_card:
    input:
        manifest="results/models/{dataset}/seed{seed}/MANIFEST.sha256",
        evaluation="results/metrics/{dataset}/evaluation.json",
        comparison="results/metrics/{dataset}/comparison.json",
        quality="results/counts/{dataset}.json",
        script=workflow.source_path("../scripts/write_model_card.py"),
    output:
        card="results/models/{dataset}/seed{seed}/README.md",
    log:
        "logs/write_model_card/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/write_model_card/{dataset}/seed{seed}.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        model=subpath(input.manifest, parent=True),
        code=code("steps/write_model_card.py"),
    shell:
        "python {input.script} --model {params.model} --evaluation {input.evaluation}"
        " --comparison {input.comparison} --quality {input.quality} --card {output.card}"
        " > {log} 2>&1"
