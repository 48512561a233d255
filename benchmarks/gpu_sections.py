"""Sections of the GPU page: ceilings, correctness, attention alone, the network, fine-tuning."""

from gpu_found import Results, digits, million, percent, small, table

ALL_GENES = 16_907
PEERS = ("performer-pytorch bf16, 2 cell(s)", "performer-pytorch bf16, 1 cell(s)")
PRECISIONS = ("fp64", "fp32", "TF32", "bf16")
ATTENTIONS = (
    "exact",
    "exact, qk_rms",
    "FAVOR+",
    "FAVOR+, qk_rms",
    "FAVOR+, stabilizer of the cell",
    "FAVOR+, cell, qk_rms",
)
LENGTHS = (512, 900, 1024, 2048, 4096, ALL_GENES)
# As they are called in stage C, and here.
KERNELS = {
    "varlen_attn bf16": "FlashAttention-2, packed cells (`varlen_attn`): ours",
    "SDPA flash bf16": "FlashAttention-2, no mask",
    "SDPA cudnn bf16": "cuDNN, no mask",
    "SDPA cudnn, mask, bf16": "cuDNN, mask",
    "SDPA efficient bf16": "memory-efficient, no mask",
    "SDPA efficient, mask, bf16": "memory-efficient, mask",
    "SDPA math bf16": "plain products, no mask",
    "SDPA math, mask, bf16": "plain products, mask",
    "performer-pytorch bf16": "FAVOR+, performer-pytorch, all in bf16",
    "FAVOR+ TF32": "FAVOR+, ours, TF32",
    "FAVOR+ fp32": "FAVOR+, ours, float32",
    "FAVOR+ bf16": "FAVOR+, ours, float32 under bf16 autocast",
}
NETWORKS = {
    "exact, packed": "exact, packed",
    "exact, packed, compiled": "the same, compiled",
    "FAVOR+": "FAVOR+, padded",
}

# Parts of kernels' names, and what they do.
STEPS = {
    "flash_bwd_dq_dk_dv": "FlashAttention-2, backward",
    "flash_fwd": "FlashAttention-2, forward",
    "GammaBetaBackward": "LayerNorm, gradients of its weights",
    "layer_norm_grad_input": "LayerNorm, gradient of its input",
    "vectorized_layer_norm": "LayerNorm, forward",
    "reduce_kernel": "sums in bf16",
    "nvjet": "a matrix product",
}


def ceilings(results: Results) -> list[str]:
    """Return what the machine can do."""
    rows = []
    for precision in ("bf16", "TF32", "fp32"):
        found = results("A", f"matrix product {precision}")
        size = f"{found['size']:,}"
        rows.append(
            [f"product of two {size} x {size} matrices, {precision}", digits(found["tflop_per_s"])]
        )
    lines = table(["what", "TFLOP/s"], rows)
    copies = ("copy on the device", "host to device, pinned", "host to device, not pinned")
    rows = [[name, digits(results("A", name)["gb_per_s"])] for name in copies]
    return [
        "\n## Ceilings",
        *lines,
        *table(["what", "GB/s"], rows),
        f"\nA kernel with nothing to do takes {results('A', 'launch')['us_host']:.1f} µs.",
    ]


def correctness(results: Results) -> list[str]:
    """Return the errors beside float64 on the CPU, and what a second run gives."""
    rows = []
    for name in ATTENTIONS:
        found = [results("B", f"{name}, {precision}") for precision in PRECISIONS]
        errors = [f"{small(one['logits'])} / {small(one['gradients'])}" for one in found]
        met = results("B", f"{name}: against float64")["met"]
        rows.append([name, *errors, "yes" if met else "NO"])
    packed = results("B", "exact: packed against padded")
    return [
        "\n## Correctness",
        "\nLogits / gradients of all weights, as |difference| / |value|, beside float64 on the CPU:"
        " the paper's size, cells of 0, 37, 300 and 900 genes. Allowed: 1e-9 for fp64, 1e-4 for "
        "fp32, 2e-2 for bf16; TF32 is only reported.",
        *table(["attention", *PRECISIONS, "met"], rows),
        "\nPacked cells beside the same cells padded, exact: "
        f"{small(packed['logits_fp32'])} in fp32, {small(packed['logits_bf16'])} in bf16. In a "
        "training step the host waits for the device "
        f"{results('B', 'exact: host waits for the device')['syncs']} times (exact) and "
        f"{results('B', 'FAVOR+: host waits for the device')['syncs']} times (FAVOR+).",
        "\n### The same run again: not the same bits",
        *again(results),
    ]


def again(results: Results) -> list[str]:
    """Return how far a second and a resumed run are from the first."""
    rows, same = [], []
    for name in ("exact", "FAVOR+"):
        found = results("B", f"{name}: the same run again, and a resumed one")
        for which, said in (("second", "again"), ("resumed", "stopped after 20 steps, resumed")):
            same.append(found[f"{which}_same_bits"])
            rows.append(
                [
                    f"{name}, {said}",
                    "yes" if same[-1] else "no",
                    small(found[f"{which}_scaled"]),
                    small(found[f"{which}_max_difference"]),
                ]
            )
    columns = ["run", "same bits", "weights, scaled difference", "largest difference"]
    return [
        *table(columns, rows),
        "\nTwo epochs of 5,000 toy cells, bf16, beside the first run with the same seed. The "
        "likely cause, not taken apart: sums that a GPU adds up atomically, in another order each "
        "time, in FlashAttention's backward pass and in the gradients of gene and token vectors."
        " A resumed run is as far off as a second one, so that resuming adds nothing that "
        "can be seen. On a CPU both have the same bits (tests).",
    ]


def attention(results: Results) -> list[str]:
    """Return times of attention alone, kernel by length."""
    columns = ["kernel", *(f"{length:,}" for length in LENGTHS)]
    varlen = [results("C", f"varlen_attn bf16, {length}") for length in LENGTHS]
    rows = [
        [mode, *(digits(one[f"{mode}_tflop_per_s"]) for one in varlen)]
        for mode in ("training", "forward")
    ]
    cudnn = [results("C", f"SDPA cudnn, mask, bf16, {length}") for length in LENGTHS]
    masked = ", ".join(
        f"{one['training_ms'] / other['training_ms']:.2f}"
        for one, other in zip(cudnn, varlen, strict=True)
    )
    return [
        "\n## Attention alone",
        "\n10 heads of 64, some 65,000 tokens in cells of one length (the column; three cells, "
        "50,721 tokens, in the last). Milliseconds, forward and backward:",
        *table(columns, by_length(results, "training_ms")),
        "\nForward only:",
        *table(columns, by_length(results, "forward_ms")),
        "\nTFLOP/s of FlashAttention-2 on packed cells:",
        *table(columns, rows),
        "\nPacked cells have no padding and no mask. cuDNN is the fastest where it can be used; it "
        "takes no packed cells in this torch, and with the mask that padded cells need it gains "
        f"little, {masked} of FlashAttention-2's time by length, before what padding costs. At 900 "
        "tokens, no multiple of their tiles, both take longer than at 1,024. FAVOR+ takes the same "
        "time for each length, so that it pays only far beyond 4,096 tokens, with all genes. Ours "
        "takes longer than performer-pytorch's, which computes its features in bf16, too: it was "
        "not worked on further.",
    ]


def by_length(results: Results, key: str) -> list[list[str]]:
    """Return a row a kernel; plain products hold a matrix and were not tried on long cells."""
    rows = []
    for name, said in KERNELS.items():
        measured = results.stages["C"]["measurements"]
        found = [measured.get(f"{name}, {length}", {}) for length in LENGTHS]
        rows.append([said, *(f"{one[key]:.2f}" if key in one else "" for one in found)])
    return rows


def network(results: Results) -> list[str]:
    """Return steps of the whole network beside performer-pytorch's, and the kernels of a step."""
    ready = results("D", "exact, packed, training")
    kernels = results("D", "exact, packed, profile of a step")
    favor = results("D", "FAVOR+, training")
    return [
        "\n## The network at the paper's size",
        "\n6 layers of width 200, 10 heads of 64, bf16, 65,536 tokens a batch at most, real cells, "
        "those of the fullest batches. performer-pytorch: all genes of a cell, as the original "
        "takes it, with its own network under the same autocast. MFU: operations that the network "
        "needs, none counted twice, of 989 TFLOP/s (NVIDIA's data sheet); those of FAVOR+ were "
        "counted 7.7 % too high in training. Training step, copy to the device and AdamW "
        "included:",
        *steps(results, "training"),
        "\nInference:",
        *steps(results, "forward"),
        f"\nCells differ in length: {ready['tokens'] / ready['cells']:,.0f} tokens in the packed "
        f"batches, {favor['tokens'] / favor['cells']:,.0f} in the padded ones, which hold cells of "
        f"like length, {ALL_GENES:,} for performer-pytorch. Tokens per second compare networks, "
        "cells per second what a cell costs.",
        f"\nKernels that take most of a training step of `exact, packed` "
        f"({kernels['kernel_ms']:.1f} ms in {kernels['launches']:.0f} launches):",
        *table(
            ["kernel", "ms", "calls"],
            [
                [kernel_name(one["kernel"]), f"{one['ms']:.2f}", f"{one['calls']:.0f}"]
                for one in kernels["kernels"]
            ],
        ),
    ]


def kernel_name(kernel: str) -> str:
    """Say what a kernel does."""
    return next((said for part, said in STEPS.items() if part in kernel), f"`{kernel}`")


def steps(results: Results, mode: str) -> list[str]:
    """Return a table of steps."""
    rows = []
    for name, said in (NETWORKS | {peer: peer for peer in PEERS}).items():
        found = results("D", f"{name}, {mode}")
        rate = found["cells_per_s"] * found["tokens"] / found["cells"]
        row = [digits(found["cells_per_s"]), million(rate), f"{found['ms']:.1f}"]
        row += [f"{found['host_ms']:.1f}", f"{found['gb']:.1f}", percent(found["mfu"])]
        if mode == "training":
            profiled = name in NETWORKS
            launches = results("D", f"{name}, profile of a step")["launches"] if profiled else 0
            row.append(f"{launches:,.0f}" if profiled else "")
        rows.append([said, *row])
    columns = ["network", "cells/s", "tokens/s", "ms, device", "ms, host", "GB", "MFU"]
    return table(columns + ["launches"] * (mode == "training"), rows)


def finetuning(results: Results) -> list[str]:
    """Return what came of fine-tuning and annotation."""
    names = ("fine-tuning", "annotation, file to file", "annotation, part by part")
    alone, whole, parts = (results("F", name) for name in names)
    compared, default = (
        results("F", name) for name in ("annotation, GPU against CPU", "the default, file to file")
    )
    rows = [
        [
            f"Fine-tuning, the encoder alone with the paper's head, {alone['epochs']} epochs",
            f"{alone['finetune_s']:.0f} s, {digits(alone['cells_per_s'])} cells/s",
            f"macro F1 {alone['macro_f1']:.3f}, accuracy {alone['accuracy']:.3f}",
        ],
        [
            f"Annotation with it, {whole['cells']:,} cells, file to file",
            f"{whole['annotate_s']:.1f} s, {digits(whole['cells_per_s'])} cells/s",
            f"its network alone, warm: {digits(parts['network_cells_per_s'])} cells/s",
        ],
        [
            f"The same {compared['cells']} cells on the CPU",
            f"{percent(compared['same_labels'])} have the same label",
            f"probabilities {small(compared['max_probability_difference'])} apart at most",
        ],
        [
            "The default, all experts: `scbert finetune`, tests included",
            f"{default['finetune_s']:.0f} s",
            f"macro F1 {default['macro_f1']:.3f}, {default['gpu_gb']:.2f} GB of the GPU",
        ],
        [
            f"`scbert annotate` with it, {default['cells']:,} cells",
            f"{default['annotate_s']:.1f} s",
            "experts and encoder",
        ],
    ]
    return [
        "\n## Fine-tuning and annotation",
        "\nOn pbmc3k, scored on its held-out cells; annotated: cells of pbmc8k.",
        *table(["what", "found", "beside"], rows),
    ]
