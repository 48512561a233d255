# Cells to be named: `snakemake queries` annotates the files of config/queries.tsv. A scattered file is
# shared by several jobs; what is gathered is the file that one job would write.


require_models()


scattergather:
    pieces=8,


rule queries:
    input:
        page="results/queries.html",
        annotated=expand("results/queries/{query}.h5ad", query=QUERIES),


rule annotate_query:
    input:
        query=file_of_query,
        manifest=manifest_of_query,
        model=model_of_query,
        script=workflow.source_path("../scripts/annotate_query.py"),
    output:
        annotated="results/queries/{query}.h5ad",
    log:
        "logs/annotate_query/{query}.log",
    benchmark:
        "results/benchmarks/annotate_query/{query}.tsv"
    wildcard_constraints:
        query=one_of(name for name in QUERIES if name not in SCATTERED),
    conda:
        torch_for("annotate_query")
    threads: threads_of("annotate_query", 1)
    resources:
        mem_mb=memory_of("annotate_query", 4000),
        runtime=per_attempt(240),
        gpu=0,
    params:
        model=subpath(input.manifest, parent=True),
        settings=query_settings,
        code=code("steps/annotate_query.py"),
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --query {input.query:q}"
        " --model {params.model:q} --settings {params.settings:q}"
        " --annotated {output.annotated:q} --device {params.device:q} > {log:q} 2>&1"


rule look_at_query:
    input:
        query=file_of_query,
        manifest=manifest_of_query,
        model=model_of_query,
        script=workflow.source_path("../scripts/look_at_query.py"),
    output:
        scale="results/queries/{query}/scale.json",
    log:
        "logs/look_at_query/{query}.log",
    benchmark:
        "results/benchmarks/look_at_query/{query}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(120),
    params:
        model=subpath(input.manifest, parent=True),
        settings=query_settings,
        code=code("steps/look_at_query.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --query {input.query:q} --model {params.model:q}"
        " --settings {params.settings:q} --scale {output.scale:q} > {log:q} 2>&1"


rule annotate_piece:
    input:
        query=file_of_query,
        manifest=manifest_of_query,
        model=model_of_query,
        scale="results/queries/{query}/scale.json",
        script=workflow.source_path("../scripts/annotate_piece.py"),
    output:
        answers=temp("results/queries/{query}/{scatteritem}.safetensors"),
    log:
        "logs/annotate_piece/{query}/{scatteritem}.log",
    benchmark:
        "results/benchmarks/annotate_piece/{query}/{scatteritem}.tsv"
    conda:
        torch_for("annotate_piece")
    threads: threads_of("annotate_piece", 1)
    resources:
        mem_mb=memory_of("annotate_piece", 4000),
        runtime=per_attempt(240),
        gpu=0,
    params:
        model=subpath(input.manifest, parent=True),
        settings=query_settings,
        code=code("steps/annotate_piece.py"),
        device=DEVICE,
    shell:
        "SCBERT_GPUS={resources.gpu} PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --query {input.query:q}"
        " --model {params.model:q} --scale {input.scale:q} --piece {wildcards.scatteritem:q}"
        " --settings {params.settings:q} --answers {output.answers:q} --device {params.device:q}"
        " > {log:q} 2>&1"


rule gather_query:
    input:
        query=file_of_query,
        manifest=manifest_of_query,
        model=model_of_query,
        scale="results/queries/{query}/scale.json",
        answers=gather.pieces("results/queries/{{query}}/{scatteritem}.safetensors"),
        script=workflow.source_path("../scripts/gather_query.py"),
    output:
        annotated="results/queries/{query}.h5ad",
    log:
        "logs/gather_query/{query}.log",
    benchmark:
        "results/benchmarks/gather_query/{query}.tsv"
    wildcard_constraints:
        query=one_of(SCATTERED),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(120),
    params:
        model=subpath(input.manifest, parent=True),
        settings=query_settings,
        code=code("steps/gather_query.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --query {input.query:q} --model {params.model:q}"
        " --scale {input.scale:q} --answers {input.answers:q} --settings {params.settings:q}"
        " --annotated {output.annotated:q} > {log:q} 2>&1"


rule summarize_query:
    input:
        annotated="results/queries/{query}.h5ad",
        script=workflow.source_path("../scripts/summarize_query.py"),
    output:
        summary="results/queries/{query}.json",
        figure="results/queries/{query}.svg",
    log:
        "logs/summarize_query/{query}.log",
    benchmark:
        "results/benchmarks/summarize_query/{query}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        source=lookup("{query}", within=SOURCES_OF_QUERIES),
        model=lookup("{query}", within=MODELS_OF_QUERIES),
        code=code("steps/summarize_query.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --annotated {input.annotated:q} --query {wildcards.query:q}"
        " --source {params.source:q} --model {params.model:q} --summary {output.summary:q}"
        " --figure {output.figure:q} > {log:q} 2>&1"


rule write_queries:
    input:
        summaries=expand("results/queries/{query}.json", query=QUERIES),
        figures=expand("results/queries/{query}.svg", query=QUERIES),
        script=workflow.source_path("../scripts/write_queries.py"),
    output:
        page=report(
            "results/queries.html",
            caption="../report/queries.rst",
            category="Report",
            labels={"page": "annotated cells"},
        ),
    log:
        "logs/write_queries.log",
    benchmark:
        "results/benchmarks/write_queries.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=code(
            "steps/write_queries.py", "report/queries.html.jinja", "report/page.css"
        ),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --summaries {input.summaries:q} --figures {input.figures:q}"
        " --page {output.page:q} > {log:q} 2>&1"
