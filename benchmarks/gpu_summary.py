"""The GPU page's beginning: what was found, in ten rows, and what follows from it."""

from gpu_found import Results, digits, million, percent, small
from gpu_sections import ALL_GENES, ATTENTIONS, PEERS
from gpu_training import skill_of

FLASH, TYPICAL = "pytorch_flash::", 900  # kernels of FlashAttention; tokens of PanglaoDB's cells


def summary(results: Results) -> list[str]:
    """Return ten rows and two paragraphs."""
    lines = ["| what | found | beside |", "| --- | --- | --- |"]
    rows = [*speed(results), *right(results), *learned(results)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), *holds(results)]


def speed(results: Results) -> list[list[str]]:
    """Return the rows of speed."""
    exact, favor = (results("D", f"{name}, training") for name in ("exact, packed", "FAVOR+"))
    peer, forward = results("D", f"{PEERS[0]}, training"), results("D", "exact, packed, forward")
    compiled = [
        results("D", f"exact, packed, compiled, {mode}") for mode in ("training", "forward")
    ]
    profile = results("D", "exact, packed, profile of a step")
    flash = sum(one["ms"] for one in profile["kernels"] if FLASH in one["kernel"])
    ours, cudnn = (
        results("C", f"{kernel} bf16, {TYPICAL}") for kernel in ("varlen_attn", "SDPA cudnn")
    )
    peers = peer["cells_per_s"] * ALL_GENES
    first = sum(one["first_s"] for one in compiled)
    gain = compiled[0]["cells_per_s"] / exact["cells_per_s"] - 1
    return [
        [
            "Training, paper's size, exact attention on packed cells",
            f"{digits(exact['cells_per_s'])} cells/s, {million(exact['tokens_per_s'])} tokens/s",
            f"performer-pytorch on all genes: {digits(peer['cells_per_s'])} cells/s "
            f"({exact['cells_per_s'] / peer['cells_per_s']:.1f} times as many here), "
            f"{million(peers)} tokens/s ({exact['tokens_per_s'] / peers:.1f} times as many here)",
        ],
        [
            "Training with FAVOR+ on padded cells",
            f"{million(favor['tokens_per_s'])} tokens/s",
            f"exact: {exact['tokens_per_s'] / favor['tokens_per_s']:.1f} times as many",
        ],
        [
            "Inference, exact, packed",
            f"{digits(forward['cells_per_s'])} cells/s",
            f"performer-pytorch: {digits(results('D', f'{PEERS[0]}, forward')['cells_per_s'])}",
        ],
        [
            "Share of the data sheet's 989 TFLOP/s (MFU)",
            percent(exact["mfu"]),
            f"{percent(exact['of_matrix_product'])} of a large matrix product's speed here",
        ],
        [
            "Where a training step's time goes",
            f"{flash:.0f} of {profile['kernel_ms']:.0f} ms in FlashAttention-2",
            f"at {TYPICAL} tokens it takes {ours['training_ms']:.2f} ms, cuDNN's kernel "
            f"{cudnn['training_ms']:.2f}, which takes no packed cells in torch 2.11",
        ],
        [
            "Compiled layers",
            f"{digits(compiled[0]['cells_per_s'])} cells/s, {100 * gain:+.0f} %",
            f"after {first:.1f} s of compiling (training and inference)",
        ],
    ]


def right(results: Results) -> list[list[str]]:
    """Return the rows of correctness."""
    worst = {
        precision: max(results("B", f"{name}, {precision}")["logits"] for name in ATTENTIONS)
        for precision in ("fp32", "bf16")
    }
    again = [
        results("B", f"{name}: the same run again, and a resumed one")["second_scaled"]
        for name in ("exact", "FAVOR+")
    ]
    return [
        [
            "Logits beside float64 on the CPU, six kinds of attention",
            f"{small(worst['fp32'])} off in fp32, {small(worst['bf16'])} in bf16, at most",
            "allowed: 1e-4, 2e-2; gradients as well",
        ],
        [
            "The same run again",
            f"weights {small(again[0])} (exact) and {small(again[1])} (FAVOR+) off, not the same "
            "bits",
            "a CPU: the same bits",
        ],
    ]


def learned(results: Results) -> list[list[str]]:
    """Return the rows of training."""
    paper, small_one = results.one("E"), results.epochs("E2")[-1]
    steps = results.epochs("E")[-1]["step"]
    tuned, whole = results("F", "fine-tuning"), results("F", "annotation, file to file")
    default = results("F", "the default, file to file")
    return [
        [
            f"Pretraining to its end: paper's size, {paper['cells']:,} cells, {paper['epochs']} "
            f"epochs, {steps:,} steps",
            f"skill {skill_of(results, 'E')} in {paper['pretraining_s']:.0f} s",
            f"small encoder, same held-out cells, {small_one['epoch']} epochs, "
            f"{small_one['step']:,} steps of half the tokens: {skill_of(results, 'E2')}",
        ],
        [
            "Fine-tuning the encoder alone, and annotation with it",
            f"{digits(tuned['cells_per_s'])} and {digits(whole['cells_per_s'])} cells/s, the "
            "latter file to file",
            f"`scbert finetune` with all experts: {default['finetune_s']:.0f} s, in which the GPU "
            "computes the encoder's vectors and the CPU all else",
        ],
    ]


def holds(results: Results) -> list[str]:
    """Return what follows, and what lengths the numbers are for."""
    exact = results("D", "exact, packed, training")
    paper, line = results.one("E"), results.epochs("E2")[-1]
    waiting = max(one["waiting_share"] for one in results.epochs("E"))
    lengths = exact["tokens"] / exact["cells"]
    same = results("F", "annotation, GPU against CPU")["same_labels"]
    step_ms = 1e3 * line["seconds"] * line["epoch"] / line["step"]
    return [
        "\n**What holds.** Every kind of attention gives on the GPU what float64 gives on a CPU, "
        "within rounding; a training step never waits for the device, nor training for its data "
        f"(at most {percent(waiting)} of the time); exact "
        "attention on packed cells is the way to train on expressed genes; a run of the paper's "
        "size comes to its end and beats the best predictor without a network on studies that it "
        f"has not seen; fine-tuning and annotation run, and {percent(same)} of the labels are a "
        "CPU's. **What does not.** A run does not repeat bit for bit. "
        f"{percent(1 - exact['mfu'])} of the GPU's peak is not reached: more than half of a step "
        "are kernels made for older GPUs. FAVOR+ on padded cells is hardly faster per token than "
        "performer-pytorch in training, and its attention alone is slower. The small encoder uses "
        f"{percent(line['mfu'])} of the peak at {step_ms:.0f} ms a step: so small a network waits "
        "for the host's launches (inferred from that, not profiled). Nothing was run on two GPUs.",
        f"\nLengths: the {paper['cells']:,} cells have {paper['tokens'] / paper['cells']:,.0f} "
        f"tokens on average, those of the timed batches {lengths:,.0f}, with E[L²] / E[L]² = "
        f"{spread(results):.2f}. At {million(exact['tokens_per_s'])} tokens/s cells of {TYPICAL} "
        f"tokens, PanglaoDB's, are {exact['tokens_per_s'] / TYPICAL:,.0f} cells/s.",
    ]


def spread(results: Results) -> float:
    """Return E[L²] / E[L]² of the timed cells, from the operations that they needed.

    A step needs 3 x layers x (8 tokens D (H E + 2 D) + 4 H E times the sum of the squares).
    """
    found, sizes = results("D", "exact, packed, training"), results.one("E")["network"]
    width, depth = sizes["heads"] * sizes["dim_head"], sizes["depth"]
    linear = 8 * found["tokens"] * sizes["dim"] * (width + 2 * sizes["dim"])
    flop = 1e9 * found["tflop_per_s"] * found["ms"] / (3 * depth)
    squares = (flop - linear) / (4 * width)
    return float(squares * found["cells"] / found["tokens"] ** 2)
