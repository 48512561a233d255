"""Rule pretrain: tokens of the corpus and gene vectors -> pretrained encoder."""

from scbert.config import PretrainSettings, step_arguments
from scbert.steps.pretrain import pretrain

paths = ("tokens", "vocabulary", "gene2vec", "pretrained", "checkpoint")
args = step_arguments(__doc__, *paths, words=("device",), settings=PretrainSettings)
pretrain(**vars(args))
