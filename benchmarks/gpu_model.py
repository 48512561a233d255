"""The only module of the GPU benchmark that knows how the package builds and calls its networks."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from gpu_data import N_BINS, WIDTH, Corpus
from paper_size import PAPER
from torch import Tensor, nn

from scbert.config import Config, DeviceName, Network, PretrainSettings, load_config, settings_for
from scbert.genes.matching import read_vocabulary
from scbert.genes.vector_files import read_vectors
from scbert.network.model import MaskedExpressionModel, new_pretraining_model
from scbert.network.performer import compile_layers
from scbert.provenance import provenance
from scbert.steps.pretrain import masked_loss
from scbert.tokens.store import TokenStore
from scbert.training.bundle import save_model
from scbert.training.bundle_contents import BundleConfig
from scbert.training.cell_batches import CellBatches, layout_of
from scbert.training.committee import Outputs, network_of, outputs
from scbert.training.corpus import make_masked
from scbert.training.devices import choose_device, make_accelerator
from scbert.training.loop import fit
from scbert.training.losses import Step
from scbert.training.mini_batch import MiniBatch
from scbert.training.optimizer import OptimizerSteps
from scbert.training.saved_model import FinetunedModel
from scbert.training.state import Task

CONFIG = Path(__file__).parents[1] / "config"
# What a CPU does in seconds; as wide as the carried gene vectors.
TINY = {"dim": WIDTH, "depth": 2, "heads": 2, "dim_head": 8, "n_features": 16, "ff_mult": 2}
SEED = 2021


def network(small: bool, **changes: Any) -> Network:
    """Return the paper's network, or a tiny one, with some settings changed."""
    return Network.model_validate(PAPER.model_dump() | (TINY if small else {}) | changes)


def new_model(settings: Network, n_genes: int) -> MaskedExpressionModel:
    """Build a network whose weights follow from a seed."""
    vectors = torch.randn(n_genes, settings.dim, generator=torch.Generator().manual_seed(SEED))
    return new_pretraining_model(settings, N_BINS, vectors, SEED)


def batches_of(store: TokenStore, tokens: int, packed: bool, constant: bool = False) -> CellBatches:
    """Return what makes mini-batches: packed for exact attention, else padded."""
    return CellBatches(
        store,
        "expressed_genes",
        N_BINS,
        tokens,
        layout="packed" if packed else "padded",
        constant=constant,
    )


def compile_network(model: MaskedExpressionModel, device: torch.device) -> None:
    """Compile the layers as pretraining does; on a CPU without code of its own, for a trial."""
    if device.type == "cuda":
        compile_layers(model.encoder.performer)
        return
    for attention, feed_forward in model.encoder.performer.net.layers:
        attention.compile(dynamic=False, backend="aot_eager")
        feed_forward.compile(dynamic=False, backend="aot_eager")


def on(batch: MiniBatch, device: torch.device) -> MiniBatch:
    """Move a batch as training does."""
    return (batch.narrow() if device.type == "cuda" else batch).to(device)


def real_logits(model: nn.Module, batch: MiniBatch) -> Tensor:
    """Return the logits of the tokens that are no padding, cell after cell: (tokens, bins + 1)."""
    return logits(model, batch)[batch.real_BG]


def logits(model: nn.Module, batch: MiniBatch) -> Tensor:
    """Return the logits of all positions."""
    return model(batch.genes_BG, batch.tokens_BG, batch.cells)


def bins_of(batch: MiniBatch) -> Tensor:
    """Return the bins of the tokens that are no padding, cell after cell."""
    return batch.tokens_BG[batch.real_BG]


def accelerator_on(device: torch.device) -> Accelerator:
    """Return accelerate's door to a device, in bf16, set up as the product does it."""
    return make_accelerator(choose_device(device_name(device)), "bf16")


def device_name(device: torch.device) -> DeviceName:
    """Return what the product's steps are told."""
    return "cuda" if device.type == "cuda" else "cpu"


def config_of(*files: Path, **changes: Any) -> Config:
    """Return the embedded configuration, changed by files and values."""
    values = yaml.safe_load((CONFIG / "config.yaml").read_text())
    for file in files:
        values = changed(values, yaml.safe_load(file.read_text()))
    return load_config(changed(values, changes))


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with single ones changed, however deep."""
    return {**values} | {
        key: changed(values[key], new)
        if isinstance(new, dict) and isinstance(values.get(key), dict)
        else new
        for key, new in changes.items()
    }


def pretrain_settings(config: Config) -> PretrainSettings:
    """Return the part of the configuration that pretraining must know."""
    return settings_for(PretrainSettings, config)


def masked_task(
    model: nn.Module, cells: CellBatches, rows: np.ndarray, after_step: Callable[[int], None]
) -> Task:
    """Return masked-expression training on some cells, without validation."""
    return Task(
        model=model,
        plan=partial(cells.epoch, rows, SEED),
        make=partial(make_masked, cells, config_of().pretrain),
        loss=masked_loss,
        validate=lambda stop: {"validation_loss": 0.0},
        name_cells=cells.store.cell_names,
        after_step=after_step,
    )


class Stepper:
    """Training steps of the product, one after the other, of batches that are at hand."""

    def __init__(self, model: nn.Module, cells: CellBatches, accelerator: Accelerator) -> None:
        task = masked_task(model, cells, np.arange(len(cells.store)), lambda step: None)
        self.optimizer_steps = OptimizerSteps(
            task, config_of().pretrain.optimizer, SEED, accelerator
        )
        self.number = 0

    def make(self, rows: np.ndarray) -> MiniBatch:
        """Make a masked batch, as the thread does that works ahead of the network."""
        return self.optimizer_steps.make(0, self.number, rows)

    def step(self, batch: MiniBatch) -> None:
        """Copy to the device, forward, backward, clip, AdamW."""
        self.number += 1
        step = Step(self.number, 0, 1e-4)
        self.optimizer_steps.add_gradients(step, self.number, batch)
        self.optimizer_steps.take(step)


def train(
    model: nn.Module,
    cells: CellBatches,
    device: torch.device,
    folder: Path,
    stop_after: int | None = None,
) -> list[Tensor]:
    """Train two epochs with the product's loop, or until SIGTERM after a step; return weights."""

    def after_step(step: int) -> None:
        if step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    task = masked_task(model, cells, np.arange(len(cells.store)), after_step)
    values = config_of(pretrain={"optimizer": {"epochs": 2, "precision": "bf16"}})
    try:
        fit(task, values.pretrain.optimizer, SEED, accelerator_on(device), folder)
    except SystemExit:
        assert stop_after is not None
    return [weight.detach().double().cpu() for weight in model.parameters()]


def write_bundle(
    folder: Path, given: Corpus, settings: PretrainSettings, weights: dict[str, Tensor] | None
) -> None:
    """Write a pretrained model as a bundle: with these weights, or as it is before training."""
    genes = read_vocabulary(given.vocabulary)
    vectors = torch.from_numpy(read_vectors(given.gene2vec, genes))
    model = new_pretraining_model(settings.network, N_BINS, vectors, SEED)
    if weights is not None:
        model.load_state_dict(weights)
    config: BundleConfig = {
        **cast("BundleConfig", settings.model_dump(mode="json")),
        "kind": "pretrained",
        "n_bins": N_BINS,
        "provenance": provenance(),
    }
    save_model(folder, model, config, genes)


def outputs_on(
    bundle: FinetunedModel, store: TokenStore, rows: np.ndarray, device: torch.device
) -> Outputs:
    """Return what a fine-tuned model says of cells, computed on a device."""
    sizes = (bundle.config["n_bins"], bundle.config["annotate"]["tokens_per_batch"])
    layout = layout_of(bundle.config["network"])
    cells = CellBatches(store, bundle.config["sequence"], *sizes, bundle.used, layout)
    return outputs(network_of(bundle.network).to(device), cells, rows, device)
