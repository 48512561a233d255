from snakemake.utils import min_version

min_version("9.27")


include: "rules/checkout.smk"


configfile: str(CHECKOUT / "config/config.yaml")


# Only what differs need be said in the working directory; a module gets what its `config:` gives.
if OWN_CONFIG:

    configfile: OWN_CONFIG


include: "rules/container.smk"
include: "rules/common.smk"
include: "rules/snakemake_fixes.smk"
include: "rules/settings.smk"
include: "rules/files.smk"
include: "rules/corpus.smk"
include: "rules/split.smk"
include: "rules/panglaodb.smk"
include: "rules/tokens.smk"
include: "rules/gene2vec.smk"
include: "rules/pretrain.smk"
include: "rules/annotate.smk"
include: "rules/queries.smk"
include: "rules/explain.smk"
include: "rules/evaluate.smk"
include: "rules/benchmark.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


report: "report/workflow.rst"


rule all:
    default_target: IS_MAIN
    input:
        "results/report.html",
        PAGES,
        expand(
            "results/models/{dataset}/seed{seed}/README.md",
            dataset=DATASETS,
            seed=SEEDS,
        ),


if not AS_MODULE:  # else there are rules of others, before and after
    warn_of_unknown_rules()
    warn_of_methods_left_out()


onsuccess:
    tell_of_failed_methods()
