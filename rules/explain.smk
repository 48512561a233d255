# Genes behind each cell type: the test cells of each dataset, the model of the first seed.


rule explain_test_cells:
    input:
        tokens="results/tokens/{dataset}",
        split="results/splits/{dataset}.tsv",
        manifest=f"results/models/{{dataset}}/seed{SEEDS[0]}/MANIFEST.sha256",
        model=model_files("{dataset}", SEEDS[0]),
        markers=[local_file(name) for name in MARKERS],
        marker_types=[
            beside(found(file)) for file in [CONFIG.explain.marker_types] if file
        ],
        gene_sets=[local_file(name) for name in EXPLAIN_GENE_SETS],
        script=workflow.source_path("../scripts/explain_test_cells.py"),
    output:
        explanation="results/explanations/{dataset}/explanation.json",
        page="results/explanations/{dataset}/README.md",
        genes="results/explanations/{dataset}/genes.tsv",
        markers="results/explanations/{dataset}/markers.tsv",
        gene_sets="results/explanations/{dataset}/gene_sets.tsv",
        deletion="results/explanations/{dataset}/deletion.tsv",
        heatmap=explanation_figure("heatmap", "genes", by="integrated gradients"),
        attention=explanation_figure("attention", "genes", by="attention sums"),
        deletion_figure=explanation_figure("deletion", "deletion test"),
    log:
        "logs/explain_test_cells/{dataset}.log",
    benchmark:
        "results/benchmarks/explain_test_cells/{dataset}.tsv"
    conda:
        torch_for("explain_test_cells")
    threads: threads_of("explain_test_cells", 1)
    resources:
        mem_mb=memory_of("explain_test_cells", 4000),
        runtime=per_attempt(240),
        gpu=0,
    params:
        settings=CONFIG.explain.model_dump_json(),
        model=subpath(input.manifest, parent=True),
        folder=subpath(output.explanation, parent=True),
        code=code("steps/explain_test_cells.py"),
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --tokens {input.tokens:q}"
        " --split {input.split:q} --model {params.model:q} --markers {input.markers:q}"
        " --marker-types {input.marker_types:q} --gene-sets {input.gene_sets:q}"
        " --explanation {params.folder:q} --settings {params.settings:q} --device {params.device:q}"
        " > {log:q} 2>&1"
