"""Random features of FAVOR+: phi(x) = exp(w·x' - |x'|²/2 - stabiliser) + EPSILON, x' = x / E^(1/4).

What is computed here is phi less EPSILON, because sums over genes scale it and not the floor. The
stabiliser of a query is its own maximum of w·x'; that of keys is the maximum over the genes of a
cell, for each head or over all heads.
Source: Choromanski et al. 2021, section 2; performer-pytorch 1.1.4, without its factor M^(-1/2),
which cancels. Queries and keys of one length: Henry et al. 2020, Query-Key Normalization.

Shape letters: B cells, H heads, C genes of a chunk, E width of a head, M random features.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-4  # floor of a feature
LEAST_SQUARE = 1e-8  # added to the mean square of a query or key: one of zeros stays zero


def product(left: Tensor, right: Tensor, memory: Tensor) -> Tensor:
    """Multiply stacks of matrices; the result lies at the start of `memory`.

    A new tensor of some MiB for every chunk would come from the system as untouched pages each
    time, which costs as much as the product.
    """
    shape = (*left.shape[:-1], right.shape[-1])
    result = memory[: math.prod(shape)].view(shape)
    if right.dim() == 2:
        torch.mm(left.flatten(0, -2), right, out=result.view(-1, shape[-1]))
    else:
        torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out=result.flatten(0, 1))
    return result


def with_rms(x_BHCE: Tensor, rms: float | None) -> Tensor:
    """Return queries or keys scaled to this root mean square, each on its own; None: as they are.

    The statistics are float32 or wider.
    """
    if rms is None:
        return x_BHCE
    wide_BHCE = x_BHCE.to(torch.promote_types(x_BHCE.dtype, torch.float32))
    unit_BHCE = functional.rms_norm(wide_BHCE, x_BHCE.shape[-1:], eps=LEAST_SQUARE)
    return (unit_BHCE * rms).to(x_BHCE.dtype)


def gradient_before_rms(
    grad_BHCE: Tensor, scaled_BHCE: Tensor, x_BHCE: Tensor, rms: float | None
) -> Tensor:
    """Return the gradient of x from that of `with_rms(x, rms)`: what points along x has no effect.

    Exact with LEAST_SQUARE, too.
    """
    if rms is None:
        return grad_BHCE
    square_BHC1 = x_BHCE.square().mean(dim=-1, keepdim=True) + LEAST_SQUARE
    along_BHC = torch.linalg.vecdot(scaled_BHCE, grad_BHCE) / (rms**2 * x_BHCE.shape[-1])
    across_BHCE = torch.addcmul(grad_BHCE, along_BHC[..., None], scaled_BHCE, value=-1)
    return across_BHCE * (square_BHC1.rsqrt() * rms)


def exponents(x_BHCE: Tensor, down_EM: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Return w·x' of shape (B, H, C, M), and |x'|²/2 of shape (B, H, C, 1), for x' = x / E^(1/4).

    `down_EM` is the projection, transposed, and divided by E^(1/4).
    """
    half_norm_BHC1 = x_BHCE.square().sum(dim=-1, keepdim=True) * (x_BHCE.shape[-1] ** -0.5 / 2)
    return product(x_BHCE, down_EM, memory), half_norm_BHC1


def exp_of_queries(q_BHCE: Tensor, down_EM: Tensor, memory: Tensor) -> Tensor:
    """Return the features of queries less EPSILON, shape (B, H, C, M)."""
    # A factor of a query cancels in its quotient, so each has its own maximum; keys share one.
    dash_BHCM, half_norm_BHC1 = exponents(q_BHCE, down_EM, memory)
    return dash_BHCM.sub_(half_norm_BHC1 + dash_BHCM.amax(dim=-1, keepdim=True)).exp_()


def exp_of_keys(
    dash_BHCM: Tensor, half_norm_BHC1: Tensor, real_BC: Tensor, highest_BH11: Tensor
) -> Tensor:
    """Return the features of keys less EPSILON, zero for padding, in the memory of `dash_BHCM`."""
    # Before exp: padding may exceed every real gene, and exp of it be infinite.
    nothing_BHC1 = half_norm_BHC1.masked_fill(~real_BC[:, None, :, None], torch.inf)
    return dash_BHCM.sub_(nothing_BHC1 + highest_BH11).exp_()


def exp_of_more_keys(
    found: tuple[Tensor, Tensor],
    real_BC: Tensor,
    highest_BH11: Tensor,
    *,
    per_cell: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the features of one more chunk of keys less EPSILON, as the keys so far are summed.

    Parameters
    ----------
    found
        `exponents` of the chunk; their memory is written to.
    highest_BH11
        The stabiliser of the chunks before: their highest exponent.

    Returns
    -------
    The features, (B, H, C, M); the stabiliser with this chunk, (B, H, 1, 1); and what to multiply
    the sums over the chunks before by: with a higher stabiliser their features are smaller.
    """
    dash_BHCM, half_norm_BHC1 = found
    own_BH11 = _highest_of_keys(dash_BHCM, real_BC, per_cell=per_cell)
    higher_BH11 = torch.maximum(highest_BH11, own_BH11)
    phi_BHCM = exp_of_keys(dash_BHCM, half_norm_BHC1, real_BC, higher_BH11)
    return phi_BHCM, higher_BH11, torch.exp(highest_BH11 - higher_BH11)


def _highest_of_keys(dash_BHCM: Tensor, real_BC: Tensor, *, per_cell: bool) -> Tensor:
    """Return the stabiliser of keys, shape (B, H or 1, 1, 1); very low where no gene is real."""
    highest_BHC1 = dash_BHCM.amax(dim=-1, keepdim=True)
    lowest = torch.finfo(dash_BHCM.dtype).min  # not -inf: -inf - -inf is NaN
    highest_BHC1 = highest_BHC1.masked_fill(~real_BC[:, None, :, None], lowest)
    return highest_BHC1.amax(dim=(1, 2) if per_cell else 2, keepdim=True)
