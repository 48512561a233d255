from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/panglaodb.smk"
include: "rules/tokens.smk"
include: "rules/gene2vec.smk"
include: "rules/pretrain.smk"
include: "rules/annotate.smk"
include: "rules/benchmark.smk"
include: "rules/report.smk"


report: "report/workflow.rst"


rule all:
    default_target: True
    input:
        "results/report.html",
        PAGES,
        expand(
            "results/models/{dataset}/seed{seed}/README.md",
            dataset=DATASETS,
            seed=SEEDS,
        ),
