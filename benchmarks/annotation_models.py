"""Models of the inputs that annotation_inputs writes: trained, and asked about cells."""

from pathlib import Path

import anndata as ad
import numpy as np

from scbert.cells.scale import EXPECTED_COUNTS
from scbert.cells.store import TokenStore
from scbert.config import Config, FinetuneSettings, settings_for
from scbert.steps.annotate import batches_of
from scbert.steps.finetune import finetune
from scbert.steps.reference import dataset_of
from scbert.steps.score import read_labelled, tokens_of
from scbert.training.bundle import Bundle
from scbert.training.committee import ask, network_of
from scbert.training.devices import choose_device
from scbert.training.predict import Outputs


def train(
    inputs: Path, split: Path, encoder: Path, config: Config, model: Path, checkpoint: Path
) -> None:
    """Fine-tune with the first seed of the configuration."""
    given = settings_for(FinetuneSettings, config, seed=config.finetune.seeds[0])
    (tokens,) = (inputs / "tokens").iterdir()
    settings = FinetuneSettings.model_validate_json(given)
    finetune(tokens, split, encoder, [], model, checkpoint, settings, config.device)


def read_test_cells(
    inputs: Path, model: Path, bundle: Bundle, config: Config
) -> tuple[ad.AnnData, TokenStore]:
    """Return the counts of the test cells, and their tokens as the model takes them."""
    dataset = dataset_of(inputs / "test.h5ad", "cell_type", "batch", "X", EXPECTED_COUNTS, "")
    cells, _ = read_labelled(inputs / "test.h5ad", dataset, config)
    return cells, tokens_of(cells, model, bundle)


def outputs_of(bundle: Bundle, store: TokenStore, rows: np.ndarray) -> Outputs:
    """Return what a fine-tuned model says of cells."""
    device, cells = choose_device("auto"), batches_of(bundle, store)
    network = network_of(bundle.model).to(device)
    given = (bundle.committee, network, cells, rows, device)
    return ask(*given, components=bundle.components, all_experts=True)
