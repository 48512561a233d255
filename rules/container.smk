# `--sdm apptainer`: every rule runs in one image, which the Dockerfile makes. There is no public image
# yet, so the environment variable SCBERT_IMAGE says where it is; without apptainer none is asked for.
import shlex

from snakemake.settings.types import DeploymentMethod

DEPLOYMENT = workflow.deployment_settings
IMAGE = os.environ.get("SCBERT_IMAGE")

if DeploymentMethod.APPTAINER in DEPLOYMENT.deployment_method:
    if DeploymentMethod.CONDA in DEPLOYMENT.deployment_method:
        raise WorkflowError(
            "The image holds all programs and no conda environments: give --sdm apptainer or "
            "--sdm conda, not both."
        )
    if not IMAGE:
        raise WorkflowError(
            "--sdm apptainer needs an image, but SCBERT_IMAGE is not set. Make one with the "
            "Dockerfile (docs/running.md) and give its path or address: "
            "export SCBERT_IMAGE=scbert.sif"
        )
    BIND = f" --bind {shlex.quote(str(CHECKOUT))}"  # else it sees only the working directory
    if BIND not in DEPLOYMENT.apptainer_args:
        DEPLOYMENT.apptainer_args += BIND

    envvars:
        "SCBERT_IMAGE",

    containerized: IMAGE
