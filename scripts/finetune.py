"""Rule finetune: pretrained encoder and a labelled dataset -> cell-type model."""

from scbert.config import FinetuneSettings, step_arguments
from scbert.steps.finetune_training_cells import finetune_training_cells

paths = ("tokens", "split", "pretrained", "model", "checkpoint")
args = step_arguments(
    __doc__, *paths, lists=("ontology",), words=("device",), settings=FinetuneSettings
)
finetune_training_cells(**vars(args))
