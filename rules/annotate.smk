# Fine-tuning, annotation of the test cells, and the card of each model.


rule finetune_training_cells:
    input:
        tokens="results/tokens/{dataset}",
        split="results/splits/{dataset}.tsv",
        pretrained="results/pretrained",
        ontology=ontology_of,
        script=workflow.source_path("../scripts/finetune_training_cells.py"),
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
        "logs/finetune_training_cells/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/finetune_training_cells/{dataset}/seed{seed}.tsv"
    conda:
        torch_for("finetune_training_cells")
    threads: threads_of("finetune_training_cells", 1)
    resources:
        mem_mb=memory_of("finetune_training_cells", 4000),
        runtime=720,  # also of a retry, which continues
        gpu=0,
    params:
        settings=finetune_settings,
        model=subpath(output.manifest, parent=True),
        checkpoint=checkpoint_of_finetuning,
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --tokens {input.tokens:q}"
        " --split {input.split:q} --pretrained {input.pretrained:q} --ontology {input.ontology:q}"
        " --model {params.model:q} --checkpoint {params.checkpoint:q}"
        " --settings {params.settings:q} --device {params.device:q} > {log:q} 2>&1"


rule annotate_test_cells:
    input:
        counts="results/counts/{dataset}.h5ad",
        split="results/splits/{dataset}.tsv",
        manifest="results/models/{dataset}/seed{seed}/MANIFEST.sha256",
        model=model_files("{dataset}", "{seed}"),
        script=workflow.source_path("../scripts/annotate_test_cells.py"),
    output:
        predictions="results/predictions/{dataset}/seed{seed}.h5ad",
    log:
        "logs/annotate_test_cells/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/annotate_test_cells/{dataset}/seed{seed}.tsv"
    conda:
        torch_for("annotate_test_cells")
    threads: threads_of("annotate_test_cells", 1)
    resources:
        mem_mb=memory_of("annotate_test_cells", 4000),
        runtime=per_attempt(240),
        gpu=0,
    params:
        model=subpath(input.manifest, parent=True),
        code=code("steps/annotate_test_cells.py"),
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q}"
        " --split {input.split:q} --model {params.model:q} --predictions {output.predictions:q}"
        " --device {params.device:q} > {log:q} 2>&1"


rule write_model_card:
    input:
        manifest="results/models/{dataset}/seed{seed}/MANIFEST.sha256",
        model=model_files("{dataset}", "{seed}"),
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
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --model {params.model:q} --evaluation {input.evaluation:q}"
        " --comparison {input.comparison:q} --quality {input.quality:q} --card {output.card:q}"
        " > {log:q} 2>&1"
