"""The encoders of the package, from what came back from a GPU: float16 weights, scores, a card.

Run: python benchmarks/gpu_bundle.py OUT DATA --to FOLDER
OUT is what benchmarks/gpu.py left there, DATA what benchmarks/gpu_carry.py unpacks: stage E3 is the
encoder of the package, E2 that of benchmarks. The held-out cells are scored again, on the CPU, with
the weights as they are written.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_weights import read_pieces
from safetensors.torch import load_file, save_file

from scbert.config import PretrainSettings
from scbert.evidence.pretraining_scores import HeldOutScores
from scbert.files import sha256_of
from scbert.genes.matching import read_vocabulary
from scbert.network.model import new_pretraining_model
from scbert.shipped import BENCHMARK_ENCODER, ENCODER
from scbert.tokens.store import TokenStore, open_store
from scbert.training.bundle import Contents, load_model, save_model
from scbert.training.bundle_files import MANIFEST, write_manifest
from scbert.training.cell_batches import CellBatches
from scbert.training.corpus import choose_validation_cells, studies_of
from scbert.training.validation_loss import ValidationLoss

STAGES = {"E2": ("without", BENCHMARK_ENCODER), "E3": ("all", ENCODER)}  # on which cells; the name
PURPOSE = {
    ENCODER: "`scbert finetune` starts with it. The scores in README.md and docs are those of "
    "another one, encoder_for_benchmarks in the repository, by the same recipe, that has not seen "
    "the studies they are measured on; on three studies that neither has seen: "
    "docs/results/few_cells.md. Its gene vectors were made of all cells below. It has "
    "seen counts, never types: if you test a model on a study below, say so.",
    BENCHMARK_ENCODER: "For the benchmark alone: it has seen no study on which the benchmark "
    "tests, and the scores in README.md and docs come from it. `scbert finetune` starts with "
    "another one, the encoder of the package, that has seen some of them.",
}
# What is known of each sample; of the licences only GeACT's was read.
SOURCES = {
    "celltypist_sample": "PBMC that CellTypist ships",
    "frozen_pbmc_donor_a": "10x Genomics, frozen PBMC, donor A, who is Zheng68K's donor, too",
    "hao2021": "PBMC of Hao et al. 2021 (GSE164378), a sample",
    "pbmc8k_10x_3pv2": "10x Genomics, PBMC 8k, 3' v2",
    "pbmc_10k_protein_v3": "10x Genomics, PBMC 10k with proteins, a sample (scvi-tools)",
    "pbmc_5k_protein_v3": "10x Genomics, PBMC 5k with proteins, a sample (scvi-tools)",
    "SRA1_baron_human1": "pancreas, Baron et al. 2016 (GSE84133)",
    "SRA1_baron_human234_cider": "pancreas, Baron et al. 2016 (GSE84133)",
    "chung2017_breast": "breast cancer, Chung et al. 2017 (GSE75688)",
    "copykat_tumour302": "breast tumour, example data of copyKAT",
    "covid_balf_3patients": "lung lavage, Liao et al. 2020 (GSE145926)",
    "SRA2_geact_fetal_7organs": "fetal organs, GeACT (Apache-2.0)",
    "SRA2_geact_fetal_esophagus_old": "fetal esophagus, GeACT (Apache-2.0)",
    "SRA2_geact_fetal_stomach_intestine": "fetal stomach and intestine, GeACT (Apache-2.0)",
    "kidney_immune_1000": "kidney, Stewart et al. 2019",
    "wu2020_tcells200": "T cells, Wu et al. 2020 (GSE139555)",
}


def found_in(out: Path, stage: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what a stage says of its training, and the history of its epochs."""
    stages = json.loads((out / "results.json").read_text())["stages"]
    measurements = stages[stage]["measurements"]
    (training,) = (found for name, found in measurements.items() if name != "history")
    return training, [line for line in measurements["history"]["history"] if "epoch" in line]


def write(stage: str, out: Path, data: Path, folder: Path) -> None:
    """Write a model."""
    training, history = found_in(out, stage)
    given = data / STAGES[stage][0]
    genes, store = read_vocabulary(given / "vocabulary.tsv"), open_store(given / "tokens")
    known = {key: training["config"][key] for key in PretrainSettings.model_fields}
    settings = PretrainSettings.model_validate(known)
    model = new_pretraining_model(
        settings.network, settings.binning.n_bins, torch.zeros(len(genes), settings.network.dim), 0
    )
    rounded = {key: weight.half() for key, weight in read_pieces(out, f"weights_{stage}").items()}
    model.load_state_dict(rounded)
    validation = score(model, store, settings)
    made = training["config"]["provenance"] | {"command": f"benchmarks/gpu.py --stage {stage}"}
    config = training["config"] | {"provenance": made, "tokens": store.meta, "weights": "float16"}
    contents = Contents(validation=validation)
    save_model(folder, model, config, genes, history=history, contents=contents)
    save_file(
        {key: weight.half() for key, weight in load_file(folder / "weights.safetensors").items()},
        folder / "weights.safetensors",
    )
    (folder / MANIFEST).unlink()
    write_manifest(folder)
    (folder / "README.md").write_text(
        card(STAGES[stage][1], store, settings, validation, len(history), training)
    )
    assert load_model(folder).sha256 == sha256_of(folder / MANIFEST)


def score(model: torch.nn.Module, store: TokenStore, settings: PretrainSettings) -> HeldOutScores:
    """Score the held-out cells, as pretraining does at its end."""
    options = settings.pretrain
    tokens = options.optimizer.tokens_per_batch
    cells = CellBatches(store, settings.sequence, settings.binning.n_bins, tokens, layout="packed")
    training, held_out = choose_validation_cells(store, options)
    return ValidationLoss(cells, held_out, training, options).result(model, torch.device("cpu"))


def card(
    name: str,
    store: TokenStore,
    settings: PretrainSettings,
    validation: HeldOutScores,
    epochs: int,
    training: dict[str, Any],
) -> str:
    """Return the card of a model."""
    _, held_out = choose_validation_cells(store, settings.pretrain)
    samples = [source["sample"] for source in store.meta["sources"]]
    cells = np.bincount(store.sample, minlength=len(samples))
    learned = cells - np.bincount(store.sample[held_out], minlength=len(samples))
    away = {studies_of(store)[number] for number in set(store.sample[held_out].tolist())}
    skill, network = validation.skill, settings.network
    lines = [
        "# A pretrained encoder for human cells",
        f"\nMasked expression on {len(store) - len(held_out):,} cells, {len(store.measured[0]):,} "
        f"genes that code for protein; width {network.dim}, {network.depth} layers, exact "
        f"attention; {epochs} epochs of {training['epochs']} that were planned, on one NVIDIA H200 "
        "(docs/results/gpu.md). Weights are float16. It names no cell types."
        f"\n\n{PURPOSE[name]}",
        f"\nSkill over the best predictor without a network, on {validation.cells:,} cells of "
        f"studies that it has not seen ({', '.join(sorted(away))}): {skill.mean:.3f} "
        f"({skill.low:.3f} to {skill.high:.3f}).",
        "\n| sample | cells | learned from | source |",
        "|---|---:|---:|---|",
        *(
            f"| {sample} | {cells[number]:,} | {learned[number]:,} | {SOURCES[sample]} |"
            for number, sample in enumerate(samples)
        ),
        "\nDo not quote scores on Zheng68K or pbmc68k_reduced with it: frozen_pbmc_donor_a is of "
        "that donor and study (other cells).",
        "\nThe weights are derived from these public data. Licences: GeACT's was read "
        "(Apache-2.0); ask the authors of the others before you sell what is made with it.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the models of some stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=["E2"])
    options = parser.parse_args()
    for stage in options.stages:
        folder = options.to / STAGES[stage][1]
        write(stage, options.out, options.data, folder)
        print((folder / "README.md").read_text())


if __name__ == "__main__":
    main()
