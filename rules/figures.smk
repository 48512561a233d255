# Figures of the corpus and of each dataset.


rule draw_corpus_figures:
    input:
        tokens=expand("results/tokens/{store}", store=CONFIG.corpus.name),
        gene2vec="results/gene2vec",
        gene2vec_quality="results/gene2vec_quality.json",
        pretrained="results/pretrained",
        script=workflow.source_path("../scripts/draw_corpus_figures.py"),
    output:
        tokens_figure=corpus_figure("tokens", "Tokens of the corpus"),
        gene2vec_figure=corpus_figure("gene2vec", "Map of gene vectors"),
        gene2vec_quality_figure=corpus_figure(
            "gene2vec_quality", "Quality of gene vectors"
        ),
        pretraining_figure=corpus_figure("pretraining", "Masked-expression pretraining"),
    log:
        "logs/draw_corpus_figures.log",
    benchmark:
        "results/benchmarks/draw_corpus_figures.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("steps/draw_corpus_figures.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --tokens {input.tokens:q}/meta.json --gene2vec {input.gene2vec:q}"
        " --gene2vec-quality {input.gene2vec_quality:q}"
        " --gene2vec-quality-figure {output.gene2vec_quality_figure:q}"
        " --pretrained {input.pretrained:q} --tokens-figure {output.tokens_figure:q}"
        " --gene2vec-figure {output.gene2vec_figure:q}"
        " --pretraining-figure {output.pretraining_figure:q} > {log:q} 2>&1"


rule draw_dataset_figures:
    input:
        evaluation="results/metrics/{dataset}/evaluation.json",
        comparison="results/metrics/{dataset}/comparison.json",
        manifests=expand(
            "results/models/{{dataset}}/seed{seed}/MANIFEST.sha256", seed=SEEDS
        ),
        models=[model_files("{dataset}", seed) for seed in SEEDS],
        script=workflow.source_path("../scripts/draw_dataset_figures.py"),
    output:
        scores=dataset_figure("scores", "Scores beside baselines"),
        confusion=dataset_figure("confusion", "Confusion matrix"),
        per_type=dataset_figure("per_type", "Scores per cell type"),
        finetuning=dataset_figure("finetuning", "Fine-tuning curves"),
        umap=dataset_figure("umap", "UMAP of the test cells"),
        reliability=dataset_figure("reliability", "Reliability diagram"),
        unknown=dataset_figure("unknown", "Cells called unknown"),
    log:
        "logs/draw_dataset_figures/{dataset}.log",
    benchmark:
        "results/benchmarks/draw_dataset_figures/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        models=folders_of_models,
        code=code("steps/draw_dataset_figures.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --evaluation {input.evaluation:q}"
        " --comparison {input.comparison:q} --models {params.models:q} --scores {output.scores:q}"
        " --confusion {output.confusion:q} --per-type {output.per_type:q}"
        " --finetuning {output.finetuning:q} --umap {output.umap:q}"
        " --reliability {output.reliability:q} --unknown {output.unknown:q} > {log:q} 2>&1"
