# Datasets x methods x protocols x folds x seeds: `snakemake benchmark`.


checkpoint make_benchmark_tasks:
    input:
        counts=counts_of_set,
        script=workflow.source_path("../scripts/make_benchmark_tasks.py"),
    output:
        tasks=directory(f"{ROOM}/tasks"),
    log:
        "logs/make_benchmark_tasks/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/make_benchmark_tasks/{dataset}/seed{seed}.tsv"
    localrule: True
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings=CONFIG.benchmark.protocols.model_dump_json(),
        code=code("steps/make_benchmark_tasks.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --tasks {output.tasks:q}"
        " --seed {wildcards.seed:q} --settings {params.settings:q} > {log:q} 2>&1"


rule select_benchmark_cells:
    input:
        counts=counts_of_set,
        tasks=f"{ROOM}/tasks",
        script=workflow.source_path("../scripts/select_benchmark_cells.py"),
    output:
        # kept: made again for a new method, they would make all others run again
        learned=f"{ROOM}/cells/{{task}}.learned.h5ad",
        query=f"{ROOM}/cells/{{task}}.query.h5ad",
    log:
        "logs/select_benchmark_cells/{dataset}/seed{seed}/{task}.log",
    benchmark:
        "results/benchmarks/select_benchmark_cells/{dataset}/seed{seed}/{task}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        task=file_of_task,
        code=code("steps/select_benchmark_cells.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --task {params.task:q}"
        " --learned {output.learned:q} --query {output.query:q} > {log:q} 2>&1"


rule run_benchmark_method:
    input:
        learned=f"{ROOM}/cells/{{task}}.learned.h5ad",
        query=f"{ROOM}/cells/{{task}}.query.h5ad",
        files=files_of_method,
        script=workflow.source_path("../scripts/run_benchmark_method.py"),
    output:
        answers=f"{ROOM}/answers/{{method}}/{{task}}.tsv",
        run=f"{ROOM}/runs/{{method}}/{{task}}.json",
    log:
        "logs/run_benchmark_method/{dataset}/seed{seed}/{method}/{task}.log",
    benchmark:
        "results/benchmarks/run_benchmark_method/{dataset}/seed{seed}/{method}/{task}.tsv"
    conda:
        environment_of_method
    threads: threads_of("run_benchmark_method", 1)
    resources:
        mem_mb=memory_of("run_benchmark_method", 8000),
        runtime=per_attempt(int(CONFIG.benchmark.minutes) + 10),
        gpu=0,
    params:
        folder=folder_of_method,
        options=options_of_method,
        minutes=Untracked(CONFIG.benchmark.minutes),
        python=python_of_method,
        code=code_of_method,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " {params.python:q} {input.script:q} --folder {params.folder:q} --learned {input.learned:q}"
        " --query {input.query:q} --answers {output.answers:q} --run {output.run:q}"
        " --options={params.options:q} --seed {wildcards.seed:q} --threads {threads}"
        " --minutes {params.minutes:q} > {log:q} 2>&1"


rule score_benchmark:
    input:
        answers=in_room(answers_of_set),
        tasks=f"{ROOM}/tasks",
        script=workflow.source_path("../scripts/score_benchmark.py"),
    output:
        scores=f"{ROOM}/scores.tsv",
        differences=f"{ROOM}/differences.tsv",
        costs=f"{ROOM}/costs.tsv",
    log:
        "logs/score_benchmark/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/score_benchmark/{dataset}/seed{seed}.tsv"
    conda:
        "../envs/benchmark.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(60),
    params:
        folder=subpath(output.scores, parent=True),
        methods=list(METHODS),
        settings=CONFIG.evaluate.model_dump_json(),
        code=code("steps/score_benchmark.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --folder {params.folder:q} --dataset {wildcards.dataset:q}"
        " --seed {wildcards.seed:q} --methods {params.methods:q} --scores {output.scores:q}"
        " --differences {output.differences:q} --costs {output.costs:q}"
        " --settings {params.settings:q} > {log:q} 2>&1"


rule embed_benchmark_cells:
    input:
        counts="results/counts/{source}.h5ad",
        script=workflow.source_path("../scripts/embed_benchmark_cells.py"),
    output:
        embedded="results/benchmark/{source}/embedded.h5ad",
    log:
        "logs/embed_benchmark_cells/{source}.log",
    benchmark:
        "results/benchmarks/embed_benchmark_cells/{source}.tsv"
    conda:
        torch_for("embed_benchmark_cells")
    threads: threads_of("embed_benchmark_cells", 1)
    resources:
        mem_mb=memory_of("embed_benchmark_cells", 8000),
        runtime=per_attempt(120),
        gpu=0,
    params:
        settings=CONFIG.benchmark.protocols.model_dump_json(),
        code=code("steps/embed_benchmark_cells.py"),
        device=DEVICE,
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --counts {input.counts:q} --embedded {output.embedded:q}"
        " --settings {params.settings:q} --device {params.device:q} > {log:q} 2>&1"


rule measure_batch_mixing:
    input:
        embedded="results/benchmark/{source}/embedded.h5ad",
        script=workflow.source_path("../scripts/measure_batch_mixing.py"),
    output:
        mixing="results/benchmark/{source}/batch_mixing.tsv",
    log:
        "logs/measure_batch_mixing/{source}.log",
    benchmark:
        "results/benchmarks/measure_batch_mixing/{source}.tsv"
    conda:
        "../envs/batch_mixing.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(8000),
        runtime=per_attempt(120),
    params:
        python=CONFIG.benchmark.python.get("batch_mixing", "python"),
        code=code("steps/measure_batch_mixing.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " {params.python:q} {input.script:q} --embedded {input.embedded:q}"
        " --dataset {wildcards.source:q} --mixing {output.mixing:q} > {log:q} 2>&1"


rule write_benchmark:
    input:
        scores=expand(
            f"{ROOM}/scores.tsv", dataset=BENCHMARK_SETS, seed=CONFIG.benchmark.seeds
        ),
        qualities=qualities_of_benchmark,
        mixing=mixing_of_benchmark,
        methods=beside(found(CONFIG.benchmark.methods)),
        datasets=beside(found(CONFIG.datasets)),
        published=beside(found("config/benchmark/published.tsv")),
        versions=beside(found("config/benchmark/versions.tsv")),
        earlier=files_of_earlier_run(),
        config="results/config.json",
        script=workflow.source_path("../scripts/write_benchmark.py"),
    output:
        table="results/benchmark.tsv",
        data="results/benchmark.json",
        page=report(
            "results/benchmark.html",
            caption="../report/benchmark.rst",
            category="Report",
            labels={"page": "benchmark"},
        ),
    log:
        "logs/write_benchmark.log",
    benchmark:
        "results/benchmarks/write_benchmark.tsv"
    conda:
        "../envs/benchmark_page.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        chosen=list(METHODS),
        against=CONFIG.benchmark.against,
        command=benchmark_command,
        settings=CONFIG.evaluate.model_dump_json(),
        code=code(
            "steps/write_benchmark.py",
            "benchmark/page.html.jinja",
            "benchmark/page.css",
            "benchmark/page.js",
            "report/page.css",
        ),
    # --against=: Snakemake leaves an empty word out, and argparse needs one
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --scores {input.scores:q} --qualities {input.qualities:q}"
        " --mixing {input.mixing:q} --methods {input.methods:q} --datasets {input.datasets:q}"
        " --published {input.published:q} --versions {input.versions:q}"
        " --chosen {params.chosen:q} --config {input.config:q}"
        " --against={params.against:q} --command {params.command:q} --table {output.table:q} --data {output.data:q}"
        " --page {output.page:q} --settings {params.settings:q} > {log:q} 2>&1"


rule pack_benchmark_crate:
    input:
        results=[
            "results/benchmark.html",
            "results/benchmark.tsv",
            "results/benchmark.json",
        ],
        scores=expand(
            f"{ROOM}/scores.tsv", dataset=BENCHMARK_SETS, seed=CONFIG.benchmark.seeds
        ),
        qualities=qualities_of_benchmark,
        config="results/config.json",
        script=workflow.source_path("../scripts/pack_benchmark_crate.py"),
    output:
        crate=directory("results/benchmark_crate"),
    log:
        "logs/pack_benchmark_crate.log",
    benchmark:
        "results/benchmarks/pack_benchmark_crate.tsv"
    conda:
        "../envs/benchmark_page.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(30),
    params:
        methods=list(METHODS),
        workflow=str(CHECKOUT),
        workflow_files=files_of_workflow(),
        snakemake=SNAKEMAKE,
        code=code("steps/pack_benchmark_crate.py"),
    shell:
        "PYTHONPATH=$SCBERT_CHECKOUT"
        " python {input.script:q} --results {input.results:q} --scores {input.scores:q}"
        " --qualities {input.qualities:q} --methods {params.methods:q} --config {input.config:q}"
        " --workflow {params.workflow:q} --workflow-files {params.workflow_files:q}"
        " --snakemake {params.snakemake:q} --crate {output.crate:q} > {log:q} 2>&1"


rule benchmark:
    input:
        "results/benchmark.html",
        "results/benchmark_crate",
