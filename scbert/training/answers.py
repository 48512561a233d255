"""Answers of a fine-tuned model's experts to all cells of a file, or to a piece of it at a time.

Pieces that several jobs computed are put together to the very answers of one: see `Piece`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scbert.cells.cautions import Caution
from scbert.cells.how_to_read import WHOLE, Piece
from scbert.config import Precision
from scbert.files import publish
from scbert.tokens.store import TokenStore, store_in_memory
from scbert.training.bundle_contents import BundleConfig
from scbert.training.cell_batches import CellBatches, layout_of
from scbert.training.committee import Outputs, ask, joined_outputs, network_of
from scbert.training.query_tokens import CellsSeen, QueryTokens
from scbert.training.saved_model import FinetunedModel, SavedModel
from scbert.training.time_left import part_of_work

ARRAYS = ("logits", "vectors", "positions")
SEEN = ("known", "counts", "empty", "genes")
EXPERT = "expert:"  # before the name of one, in files
AGAIN = "1 to {} of one file by {} are needed. Delete them and run again."


@dataclass(frozen=True)
class Answers:
    """What was said of cells, and what only all of them say together.

    `known` and `counts`, float64 (parts,), are the counts of known genes and of all in each part in
    which the cells were read, for sums in the same order; `empty`, int64 (parts,), counts its cells
    without a token; `genes`: see `CellsSeen.genes_of`.
    """

    outputs: Outputs
    known: np.ndarray
    counts: np.ndarray
    empty: np.ndarray
    genes: np.ndarray

    def cautions(self, tokens: QueryTokens) -> list[Caution]:
        """Return the warnings that only all cells give."""
        seen = CellsSeen(tokens)
        parts = (self.known.tolist(), self.counts.tolist(), self.empty.tolist())
        for known, counts, empty in zip(*parts, strict=True):
            seen.add_counts(known, counts, empty)
        seen.add_genes(self.genes)
        return seen.cautions()


def precision_of(config: BundleConfig) -> Precision:
    """Return how precisely a model is to be asked: as it was calibrated, on the device at hand.

    A converted model, which was trained elsewhere, is asked in float32.
    """
    trained = config.get("finetune") or config["pretrain"]
    return "no" if trained.get("optimizer", {}).get("precision", "no") == "no" else "auto"


def batches_of(model: SavedModel, store: TokenStore) -> CellBatches:
    """Return cells as the network of a model takes them."""
    config = model.config
    sizes = config.get("annotate") or config["pretrain"]["optimizer"]  # of a pretrained model
    return CellBatches(
        store,
        sequence=config["sequence"],
        n_bins=config["n_bins"],
        tokens_per_batch=sizes["tokens_per_batch"],
        genes=model.used,
        layout=layout_of(config["network"]),
    )


def each_answer(
    tokens: QueryTokens,
    model: FinetunedModel,
    device: torch.device,
    *,
    all_experts: bool = False,
    piece: Piece = WHOLE,
) -> Iterator[Answers]:
    """Run a model over the cells of a piece, and yield its answers part by part, in order."""
    network, seen = network_of(model.network).to(device), CellsSeen(tokens)
    committee = model.adapted(tokens.match.measured_row).committee
    with part_of_work("cells to name", len(tokens.query) // piece.of, " cells") as done:
        for part in tokens.each(piece):
            said = ask(
                committee=committee,
                network=network,
                cells=batches_of(model, store_in_memory(part.sample)),
                rows=np.arange(len(part.sample.cells)),
                device=device,
                done=done,
                components=model.components,
                precision=precision_of(model.config),
                all_experts=all_experts,
            )
            yield Answers(
                outputs=said,
                known=np.array([part.known_counts]),
                counts=np.array([part.counts]),
                empty=np.array([part.empty]),
                genes=seen.genes_of(part),
            )


def joined_answers(parts: Iterable[Answers]) -> Answers:
    """Put the answers to several parts of the cells, at least one, one after the other."""
    every = list(parts)
    return Answers(
        joined_outputs([part.outputs for part in every]),
        np.concatenate([part.known for part in every]),
        np.concatenate([part.counts for part in every]),
        np.concatenate([part.empty for part in every]),
        np.concatenate([part.genes for part in every]),
    )


def save_answers(path: Path, parts: Iterable[Answers], piece: Piece, model: SavedModel) -> None:
    """Write the answers to a piece, which may have no cells, as safetensors."""
    every, arrays = list(parts), {}
    if every:
        found = joined_answers(every)
        arrays = {key: getattr(found.outputs, key) for key in ARRAYS}
        arrays |= {EXPERT + name: logits for name, logits in found.outputs.experts.items()}
        arrays |= {key: getattr(found, key) for key in SEEN}
    order = json.dumps(list(every[0].outputs.experts) if every else [])  # arrays lose theirs
    about = {"piece": str(piece.number), "of": str(piece.of), "model": model.sha256}
    contiguous = {key: np.ascontiguousarray(values) for key, values in arrays.items()}
    with publish(path) as unfinished:
        save_file(contiguous, unfinished, about | {"experts": order})


def load_answers(paths: Sequence[Path], n_cells: int, model: SavedModel) -> Answers:
    """Read the answers to all pieces of a file with so many cells, in any order.

    Raises
    ------
    ValueError
        If a file is damaged, or they are not the pieces of one file and of this model.
    """
    read = [_read(path) for path in paths]
    read.sort(key=lambda one: int(one[0]["piece"]))
    said = [(about["piece"], about["of"], about["model"]) for about, _ in read]
    if said != [(str(n), str(len(read)), model.sha256) for n in range(1, len(read) + 1)]:
        found = ", ".join(f"{number} of {of} by {sha256[:12]}" for number, of, sha256 in said)
        raise ValueError(
            f"the pieces are {found}, but {AGAIN.format(len(read), model.sha256[:12])}"
        )
    answers = joined_answers(
        _of_arrays(arrays, json.loads(about["experts"])) for about, arrays in read if arrays
    )
    if len(answers.outputs.logits) != n_cells:
        raise ValueError(
            f"the pieces have {len(answers.outputs.logits):,} cells, but the file has "
            f"{n_cells:,}: it was changed. Delete the pieces and run again."
        )
    return answers


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        with safe_open(path, "np") as file:
            about = {key: file.metadata()[key] for key in ("piece", "of", "model", "experts")}
            return about, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}). Delete it and run again.") from error


def _of_arrays(arrays: dict[str, np.ndarray], experts: list[str]) -> Answers:
    said = {name: arrays[EXPERT + name] for name in experts}
    outputs = Outputs(arrays["logits"], arrays["vectors"], arrays["positions"], said)
    return Answers(outputs, **{key: arrays[key] for key in SEEN})
