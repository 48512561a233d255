"""Weights of the original's checkpoints -> weights of our network.

The names and shapes are those of scBERT@262fd4b with its vendored Performer, pretrained (a layer
that predicts tokens) or fine-tuned (a convolution and three layers). Nothing else differs: the
mathematics is the same, so only names change.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = "performer.net.layers"
COUNTER = "performer.calls_since_last_redraw"  # redraws are ours
SIZED_BY = (
    "token_emb.weight",
    "pos_emb.emb.weight",
    f"{BLOCK}.0.0.fn.to_q.weight",
    f"{BLOCK}.0.0.fn.fast_attention.projection_matrix",
    f"{BLOCK}.0.1.fn.fn.w1.weight",
)
SIZED_BY_HEAD = ("to_out.fc1.weight", "to_out.fc2.weight", "to_out.fc3.weight")
ATTENTION_KEYS = {  # original -> ours, within a layer
    "0.norm.weight": "0.norm.weight",
    "0.norm.bias": "0.norm.bias",
    "0.fn.fast_attention.projection_matrix": "0.fn.fast_attention.projection_ME",
    "0.fn.to_q.weight": "0.fn.to_q.weight",
    "0.fn.to_k.weight": "0.fn.to_k.weight",
    "0.fn.to_v.weight": "0.fn.to_v.weight",
    "0.fn.to_out.weight": "0.fn.to_out.weight",
    "0.fn.to_out.bias": "0.fn.to_out.bias",
}
FEED_FORWARD_KEYS = [
    "1.norm.weight",
    "1.norm.bias",
    *(f"1.fn.fn.{layer}.{part}" for layer in ("w1", "w2") for part in ("weight", "bias")),
]
LAYER_KEYS = ATTENTION_KEYS | {key: key for key in FEED_FORWARD_KEYS}
HEAD_KEYS = {
    f"to_out.{theirs}.{part}": f"head.{ours}.{part}"
    for theirs, ours in {
        "conv1": "to_scalar",
        "fc1": "first",
        "fc2": "classify.1",
        "fc3": "classify.4",
    }.items()
    for part in ("weight", "bias")
}


@dataclass(frozen=True)
class OriginalSizes:
    """Sizes of a checkpoint; `n_types` and `hidden` are None for a pretrained one.

    `n_tokens` counts bin 0, the bins and the mask; `n_positions` the genes and the appended token.
    """

    n_tokens: int
    n_positions: int
    dim: int
    depth: int
    heads: int
    dim_head: int
    n_features: int
    ff_mult: int
    hidden: tuple[int, int] | None
    n_types: int | None

    @property
    def n_bins(self) -> int:
        """Bins above bin 0."""
        return self.n_tokens - 2

    @property
    def n_genes(self) -> int:
        """Genes, without the appended token."""
        return self.n_positions - 1


def read_sizes(state: Mapping[str, Tensor]) -> OriginalSizes:
    """Read the sizes from the shapes of a few weights, and check all others against them.

    Raises
    ------
    ValueError
        If a weight is missing, unknown or of the wrong shape, or is not finite.
    """
    is_finetuned = any(key in state for key in HEAD_KEYS)
    needed = SIZED_BY + (SIZED_BY_HEAD if is_finetuned else ())
    _require(state, dict.fromkeys(needed))
    n_tokens, dim = _matrix(state, "token_emb.weight")
    inner, _ = _matrix(state, SIZED_BY[2])
    n_features, dim_head = _matrix(state, SIZED_BY[3])
    numbers = [found[1] for key in state if (found := re.match(rf"{BLOCK}\.(\d+)\.", key))]
    first, second, n_types = (
        (_matrix(state, key)[0] for key in SIZED_BY_HEAD) if is_finetuned else (0, 0, 0)
    )
    sizes = OriginalSizes(
        n_tokens=n_tokens,
        n_positions=_matrix(state, "pos_emb.emb.weight")[0],
        dim=dim,
        depth=max(map(int, numbers)) + 1,
        heads=max(1, inner // dim_head),
        dim_head=dim_head,
        n_features=n_features,
        ff_mult=max(1, _matrix(state, SIZED_BY[4])[0] // dim),
        hidden=(first, second) if is_finetuned else None,
        n_types=n_types if is_finetuned else None,
    )
    _require(state, expected_shapes(sizes))
    return sizes


def expected_shapes(sizes: OriginalSizes) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a checkpoint of these sizes."""
    dim, inner, wide = sizes.dim, sizes.heads * sizes.dim_head, sizes.ff_mult * sizes.dim
    layer: dict[str, tuple[int, ...]] = dict.fromkeys(LAYER_KEYS, (dim,))  # norms and biases
    layer |= {f"0.fn.to_{name}.weight": (inner, dim) for name in "qkv"}
    layer |= {
        "0.fn.fast_attention.projection_matrix": (sizes.n_features, sizes.dim_head),
        "0.fn.to_out.weight": (dim, inner),
        "1.fn.fn.w1.weight": (wide, dim),
        "1.fn.fn.w1.bias": (wide,),
        "1.fn.fn.w2.weight": (dim, wide),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_emb.weight": (sizes.n_tokens, dim),
        "pos_emb.emb.weight": (sizes.n_positions, dim),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    for number in range(sizes.depth):
        shapes |= {f"{BLOCK}.{number}.{key}": shape for key, shape in layer.items()}
    return shapes | _head_shapes(sizes)


def _head_shapes(sizes: OriginalSizes) -> dict[str, tuple[int, ...]]:
    if sizes.hidden is None or sizes.n_types is None:
        return {"to_out.weight": (sizes.n_tokens, sizes.dim), "to_out.bias": (sizes.n_tokens,)}
    shapes: dict[str, tuple[int, ...]] = {
        "to_out.conv1.weight": (1, 1, 1, sizes.dim),
        "to_out.conv1.bias": (1,),
    }
    widths = (sizes.n_positions, *sizes.hidden, sizes.n_types)
    for number in (1, 2, 3):
        shapes[f"to_out.fc{number}.weight"] = (widths[number], widths[number - 1])
        shapes[f"to_out.fc{number}.bias"] = (widths[number],)
    return shapes


def _matrix(state: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    shape = tuple(state[key].shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"weight '{key}' has shape {shape}, but a matrix is needed. This is not a checkpoint "
            "of the original scBERT."
        )
    return shape[0], shape[1]


def _require(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...] | None]) -> None:
    """Refuse weights that are missing, of another shape or not finite, and, with shapes, others."""
    complete = None not in shapes.values()
    faults = [f"'{key}' is missing" for key in shapes if key not in state]
    for key, weight in state.items():
        if key in shapes and shapes[key] not in (None, tuple(weight.shape)):
            faults.append(f"'{key}' has shape {tuple(weight.shape)} instead of {shapes[key]}")
        elif key not in shapes and key != COUNTER and complete:
            faults.append(f"'{key}' {tuple(weight.shape)} is not known")
        elif key in shapes and not (weight.is_floating_point() and weight.isfinite().all()):
            faults.append(f"'{key}' holds {weight.dtype} with values that are not finite numbers")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(state)} weights do not fit the original scBERT: "
            f"{'; '.join(faults[:5])}{'; ...' if len(faults) > 5 else ''}. Give a checkpoint of "
            "its pretrain.py or finetune.py, made with gene2vec."
        )


def rename_weights(state: Mapping[str, Tensor], sizes: OriginalSizes) -> dict[str, Tensor]:
    """Return the weights under our names, float32.

    The original's last token is mask and padding at once: here it is the mask, and padding, which
    nothing reads, gets zeros. The layer that predicts tokens loses the row of the mask, which is
    never a target.
    """
    token_TD = state["token_emb.weight"]
    encoder = {
        "token.weight": torch.cat([token_TD, torch.zeros_like(token_TD[:1])]),
        "gene.weight": state["pos_emb.emb.weight"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for number in range(sizes.depth):
        for theirs, ours in LAYER_KEYS.items():
            encoder[f"{BLOCK}.{number}.{ours}"] = state[f"{BLOCK}.{number}.{theirs}"]
    renamed = {f"encoder.{key}": weight for key, weight in encoder.items()}
    if sizes.n_types is None:
        renamed |= {f"to_bins.{part}": state[f"to_out.{part}"][:-1] for part in ("weight", "bias")}
    else:
        renamed |= {ours: state[theirs] for theirs, ours in HEAD_KEYS.items()}
        renamed["head.to_scalar.weight"] = state["to_out.conv1.weight"].reshape(1, -1)
    return {key: weight.float() for key, weight in renamed.items()}
