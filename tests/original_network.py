"""The original network as equations (../docs: Yang et al. 2022, Choromanski et al. 2021), float64.

    h = E[t] + G;  h += Attn(LN h);  h += W2 GELU(W1 LN h + b1) + b2;  z = LN h
    phi_q(x) = exp(w x' - |x'|^2 / 2 - max of the row) + 1e-4,  x' = x / d^(1/4)
    phi_k(x) = exp(w x' - |x'|^2 / 2 - max of the batch) + 1e-4
    out_i    = phi_q(q_i) (sum_j phi_k(k_j) v_j) / phi_q(q_i) (sum_j phi_k(k_j))

Written from these, as explicit genes x genes matrices; only names and shapes of the weights are
the original's.
"""

import torch
from torch.nn import functional

LAYER = "performer.net.layers"
GENE2VEC, COUNTER = "pos_emb.emb.weight", "performer.calls_since_last_redraw"


def original_state(  # noqa: PLR0913, PLR0917  each is a size that checkpoints differ in
    n_genes=11, dim=20, depth=2, heads=2, dim_head=8, n_tokens=7, n_types=None, seed=0, scale=1.0
):
    """Random weights with the original's keys, shapes and types; `n_types`: the second head."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * scale * shape[-1] ** -0.5

    def linear(name, n_out, n_in):
        return {f"{name}.weight": draw(n_out, n_in), f"{name}.bias": 0.1 * draw(n_out)}

    def norm(name):
        return {f"{name}.weight": 1 + 0.1 * draw(dim), f"{name}.bias": 0.1 * draw(dim)}

    vectors = torch.cat([draw(n_genes, dim), torch.zeros(1, dim)]).double()
    state = {
        "token_emb.weight": torch.randn(n_tokens, dim, generator=generator),
        GENE2VEC: vectors,
        COUNTER: torch.tensor(17),
    }
    inner = heads * dim_head
    for n in range(depth):
        attention, forward = f"{LAYER}.{n}.0", f"{LAYER}.{n}.1"
        state |= norm(f"{attention}.norm") | norm(f"{forward}.norm")
        w = torch.randn(3 * dim_head, dim_head, generator=generator)
        state[f"{attention}.fn.fast_attention.projection_matrix"] = w
        for name in ("to_q", "to_k", "to_v"):
            state[f"{attention}.fn.{name}.weight"] = draw(inner, dim)
        state |= linear(f"{attention}.fn.to_out", dim, inner)
        state |= linear(f"{forward}.fn.fn.w1", 4 * dim, dim)
        state |= linear(f"{forward}.fn.fn.w2", dim, 4 * dim)
    state |= norm("norm")
    if n_types is None:
        return state | linear("to_out", n_tokens, dim)
    state |= {"to_out.conv1.weight": draw(1, 1, 1, dim), "to_out.conv1.bias": 0.1 * draw(1)}
    widths = (n_genes + 1, 12, 9, n_types)
    for n in (1, 2, 3):
        state |= linear(f"to_out.fc{n}", widths[n], widths[n - 1])
    return state


def original_logits(state, tokens_BL):
    """Logits of the cells, computed together as the original does: (B, L, T) or (B, C)."""
    state = {key: weight.double() for key, weight in state.items()}

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)

    def norm(name, x):
        return functional.layer_norm(
            x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"]
        )

    h = state["token_emb.weight"][tokens_BL] + state[GENE2VEC]
    for n in range(sum(key.endswith("to_q.weight") for key in state)):
        x, fn = norm(f"{LAYER}.{n}.0.norm", h), f"{LAYER}.{n}.0.fn"
        w = state[f"{fn}.fast_attention.projection_matrix"]
        q, k, v = (
            linear(f"{fn}.{name}", x).unflatten(-1, (-1, w.shape[1])).transpose(1, 2)
            for name in ("to_q", "to_k", "to_v")
        )
        attended = _attention_matrix(q, k, w) @ v
        h = h + linear(f"{fn}.to_out", attended.transpose(1, 2).flatten(2))
        x, fn = norm(f"{LAYER}.{n}.1.norm", h), f"{LAYER}.{n}.1.fn.fn"
        h = h + linear(f"{fn}.w2", functional.gelu(linear(f"{fn}.w1", x)))
    z = norm("norm", h)
    if "to_out.weight" in state:
        return linear("to_out", z)
    x = (z @ state["to_out.conv1.weight"].flatten() + state["to_out.conv1.bias"]).relu()
    return linear("to_out.fc3", linear("to_out.fc2", linear("to_out.fc1", x).relu()).relu())


def _attention_matrix(q, k, w):
    """Rows sum to one; shape (B, H, L, L)."""

    def exponent(x):
        scaled = x / x.shape[-1] ** 0.25
        return scaled @ w.T, scaled.square().sum(dim=-1, keepdim=True) / 2

    (dash_q, half_q), (dash_k, half_k) = exponent(q), exponent(k)
    phi_q = torch.exp(dash_q - half_q - dash_q.amax(dim=-1, keepdim=True)) + 1e-4
    phi_k = torch.exp(dash_k - half_k - dash_k.amax()) + 1e-4
    scores = phi_q @ phi_k.transpose(-1, -2)
    return scores / scores.sum(dim=-1, keepdim=True)
