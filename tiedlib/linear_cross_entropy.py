"""Output layer and loss as one function: from the last hidden state to nats.

Explained in the chapters `tying` (what the two roles of an embedding do to its gradient) and `fast_output` (how the cost
of a large vocabulary is cut). Naming and arguments follow `torch.nn.functional.cross_entropy` and `linear`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["linear_cross_entropy"]

REDUCTIONS = ("mean", "sum", "none")


def linear_cross_entropy(
    input: Float[Tensor, "*batch dim"],
    linear_weight: Float[Tensor, "vocab dim"],
    target: Int[Tensor, "*batch"],
    *,
    linear_bias: Float[Tensor, " vocab"] | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "*loss"]:
    """Cross-entropy of a softmax over `linear_weight @ h + linear_bias`, in nats.

        z = V h + b,    ℓ(h, o) = −log softmax(z)_o = log Σ_x exp(z_x) − z_o
        with label smoothing ε:  (1 − ε) ℓ(h, o) + (ε / C) Σ_x ℓ(h, x)

    Shapes: input h (*batch, dim), linear_weight V (vocab = C, dim), target o (*batch), linear_bias b (vocab). The result
    is a scalar, or has target's shape with reduction="none". "mean" divides by the number of targets that are not
    `ignore_index` and is NaN where there are none, as in torch.

    Raises TypeError for a target that is not of integer type, ValueError for shapes that do not fit, an unknown
    reduction, a label_smoothing outside [0, 1], or a target outside 0 … vocab − 1 that is not `ignore_index`.
    """
    _check(input, linear_weight, target, linear_bias, reduction, ignore_index, label_smoothing)
    logits = F.linear(input.reshape(-1, input.shape[-1]), linear_weight, linear_bias)
    loss = F.cross_entropy(
        logits,
        target.reshape(-1),
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    return loss.reshape(target.shape) if reduction == "none" else loss


def _check(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> None:
    if target.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8):
        raise TypeError(f"target has dtype {target.dtype}; it must hold integer class indices")
    if weight.ndim != 2 or input.ndim < 1 or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"input has shape {tuple(input.shape)} and linear_weight {tuple(weight.shape)}; "
            "the last size of input must be the second size of linear_weight"
        )
    if input.shape[:-1] != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; it must be input's without the last: {tuple(input.shape[:-1])}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear_bias has shape {tuple(bias.shape)}; it must be ({weight.shape[0]},), one for each row"
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; it must be one of {', '.join(map(repr, REDUCTIONS))}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1]")
    # torch checks targets itself on the CPU; on a GPU a wrong one is a device-side assertion that ends the process.
    if target.is_cuda and target.numel():
        wanted = target[target != ignore_index]
        if wanted.numel() and not (int(wanted.min()) >= 0 and int(wanted.max()) < weight.shape[0]):
            raise ValueError(f"target holds {int(wanted.max())}; it must lie in 0 … {weight.shape[0] - 1}")
