"""What weights are charged for: penalties on their size, the steps that go with them, and a limit on a unit's weights.

Explained in the chapter `regularization`. A strength multiplies Σθ² or Σ|θ| and nothing else: there is no ½, so that the
gradient of λ Σθ² is 2λθ, and torch's `weight_decay` is 2λ. What a strength means depends on the loss beside it: a mean over N
examples with λ is the sum over them with Nλ. Strengths, rates, thresholds and limits may be tensors (a grid of runs has one
value each); those are never looked at. Sums run in float32 at least, and NaN in gives NaN out.

Sources: Hoerl & Kennard 1970 (ridge: L2); Tibshirani 1996 (lasso: L1); Krogh & Hertz 1992 (weight decay in networks);
Daubechies, Defrise & De Mol 2004 (the proximal step); Srivastava et al. 2014, section 5.1 (the limit, called max-norm there).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tiedlib import _arguments as arguments

__all__ = [
    "frobenius_norm",
    "l1_penalty",
    "l2_penalty",
    "matrices",
    "max_norm",
    "max_norm_",
    "penalized",
    "penalty_groups",
    "proximal_sgd",
    "soft_threshold",
]

Array = Float[Tensor, "*shape"]
Scalar = int | float | Float[Tensor, "..."]  # a tensor where a grid of runs has one value each
Params = Float[Tensor, "..."] | Iterable[Float[Tensor, "..."]]


def l2_penalty(params: Params) -> Float[Tensor, ""]:
    """Σ θ² over all entries of all tensors: for one matrix ‖Θ‖²_F. Its gradient is 2θ.   Hoerl & Kennard 1970.

    params is a tensor or an iterable of tensors; one that is listed twice counts twice (`model.parameters()` lists a tied one
    once). float16 and bfloat16 give a float32 result. Raises TypeError for what is no floating-point tensor, ValueError
    for sparse tensors or an empty iterable.
    """
    return _total(_wide(p).square().sum() for p in _tensors(params))


def l1_penalty(params: Params) -> Float[Tensor, ""]:
    """Σ |θ| over all entries of all tensors, entry by entry (no operator norm). Its gradient is sign(θ), and 0 at θ = 0.

    Tibshirani 1996. Arguments, result and errors as for `l2_penalty`.
    """
    return _total(_wide(p).abs().sum() for p in _tensors(params))


def frobenius_norm(tensor: Array) -> Float[Tensor, ""]:
    """‖Θ‖_F = √(Σ θ²), the length of all entries as one vector; for matrices also √(Σ σ²), σ the singular values.

    Scaled by the largest entry on the way, so that no square overflows or vanishes; the gradient at 0 is 0. 0 for a tensor
    without entries. Raises TypeError for a dtype that is not floating, ValueError for a sparse tensor.
    """
    _dense(tensor=tensor)
    if tensor.numel() == 0:
        return tensor.sum()
    largest = tensor.detach().abs().amax()  # ‖cΘ‖ = c‖Θ‖, so a constant here: the gradient stays right
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    return scale * torch.linalg.vector_norm(tensor / scale)


def penalized(loss: Float[Tensor, ""], params: Params, *, l1: Scalar = 0.0, l2: Scalar = 0.0) -> Float[Tensor, ""]:
    """loss + l1 · Σ|θ| + l2 · Σθ².   A strength for each layer: penalized(penalized(loss, W, l2=0.1), V, l2=0.2).

    The gradient is ∂loss/∂θ + l1 · sign(θ) + 2 · l2 · θ. params as for `l2_penalty`, often `matrices(model)`. Raises ValueError
    for a loss that is no scalar (added to every example's loss a penalty would count once for each) and a strength that is
    negative or not finite, TypeError for one that is no number.
    """
    arguments.floating(loss=loss)
    if loss.dim():
        raise ValueError(f"loss has shape {tuple(loss.shape)}; it must be a scalar: take the mean or the sum first")
    tensors = _tensors(params)
    for name, strength, penalty in (("l1", l1, l1_penalty), ("l2", l2, l2_penalty)):
        arguments.number(name, strength, "at least 0 and finite")
        if isinstance(strength, Tensor) or strength:
            term = penalty(tensors)
            loss = loss + (strength * term).to(term.dtype)  # a float64 strength leaves the loss as wide as it was
    return loss


def soft_threshold(x: Array, t: Scalar) -> Array:
    """sign(x) · max(|x| − t, 0) = argmin_u ½(u − x)² + t|u|: towards 0 by t, and what does not reach that far is exactly 0.

    The proximal operator of t|·|; Daubechies et al. 2004, up to a factor of 2 in their t. t is a number or broadcasts to x.
    Raises ValueError for t < 0 or not finite, TypeError for an x that is not floating or a t that is no number.
    """
    _dense(x=x)
    arguments.number("t", t, "at least 0 and finite")
    if isinstance(t, Tensor):
        if t.dim() > x.dim() or any(a not in (1, b) for a, b in zip(t.shape[::-1], x.shape[::-1], strict=False)):
            raise ValueError(f"t has shape {tuple(t.shape)} and x {tuple(x.shape)}; t must broadcast to x")
        t = t.to(x.dtype)
    bound = t * torch.ones_like(x)
    return x - torch.minimum(torch.maximum(x, -bound), bound)  # x − x is exactly 0 where |x| ≤ t


def proximal_sgd(
    grad: Array, state: dict[str, Any], param: Array, *, lr: Scalar = 1e-3, l1: Scalar = 0.0
) -> tuple[Array, dict[str, Any]]:
    """θ ← soft_threshold(θ − ηg, ηλ),   λ = l1: a gradient step on the loss, then the exact minimiser of the L1 penalty.

    Where the result is 0 the step is −θ, and θ + step is 0 to the last bit. An update rule like those of the chapter
    `optimizers`: returns (step, state), keeps no state; g is the gradient without the L1 penalty. With lr ≤ 1/(largest
    curvature) the penalized loss falls at every full-batch step. Daubechies et al. 2004 (ISTA). Raises ValueError for lr
    < 0, l1 < 0, not finite, or unequal shapes, TypeError for what is no number or no floating-point tensor.
    """
    _dense(grad=grad, param=param)
    arguments.number("lr", lr, "at least 0 and finite")
    arguments.number("l1", l1, "at least 0 and finite")
    if grad.shape != param.shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)} and param {tuple(param.shape)}; they must be equal")
    return soft_threshold(param - lr * grad, lr * l1) - param, state


def max_norm(weight: Array, limit: Scalar, dim: int = 0) -> Array:
    """w_j ← w_j · min(1, c / ‖w_j‖₂) for every slice w_j along `dim`, c = limit: the nearest weights with all ‖w_j‖ ≤ c.

    torch keeps a layer's weights as (out, in, …): with dim = 0 w_j holds what goes into unit j. Srivastava
    et al. 2014, section 5.1. limit = inf changes nothing. Raises ValueError for fewer than two axes, a dim that is
    none of them, a limit ≤ 0; TypeError for a dtype that is not floating or a limit that is no number.
    """
    _dense(weight=weight)
    if weight.dim() < 2 or not -weight.dim() <= dim < weight.dim():
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} and dim is {dim}; give two axes or more, and one of them"
        )
    arguments.number("limit", limit, "positive")
    others = [d for d in range(weight.dim()) if d != dim % weight.dim()]
    if weight.numel() == 0:
        return weight.clone()
    wide = _wide(weight)
    size = wide.detach().abs().amax(others, keepdim=True)  # ‖w‖ = s ‖w/s‖ for any s, so a constant here
    unit = wide / torch.where(size > 0, size, torch.ones_like(size))  # largest entry ±1: no square overflows
    length = torch.linalg.vector_norm(unit, dim=others, keepdim=True).clamp(min=1)  # below 1 only where all is 0
    too_long = length > limit / size
    limit = torch.as_tensor(limit, dtype=length.dtype, device=length.device)
    bound = torch.where(
        too_long, limit, torch.ones_like(length)
    )  # where nothing is to be done, not even a limit of ∞ reaches the gradient
    return torch.where(too_long, (unit * (bound / length)).to(weight.dtype), weight)


def max_norm_(weight: Array, limit: Scalar, dim: int = 0) -> Array:
    """`max_norm` in place, outside of the graph: to be called after the optimizer's step. Returns weight."""
    with torch.no_grad():
        limited = max_norm(weight, limit, dim)
        return weight.copy_(limited)


def matrices(model: nn.Module) -> list[Tensor]:
    """The parameters with two axes or more: the weights, without biases and the gains of normalization; tied ones once.

    Raises TypeError for what is no module.
    """
    return _split(model)[0]


def penalty_groups(model: nn.Module, **strengths: Scalar) -> list[dict[str, Any]]:
    """Two parameter groups for an optimizer: `matrices(model)` with these strengths, all other parameters with 0.

        torch.optim.SGD(penalty_groups(model, weight_decay=0.01), lr=0.1)

    Raises ValueError for no strength or one that is negative or not finite, TypeError for no module or no number.
    """
    if not strengths:
        raise ValueError("strengths is empty; name at least one, such as weight_decay=0.01")
    for name, value in strengths.items():
        arguments.number(name, value, "at least 0 and finite")
    weights, rest = _split(model)
    return [{"params": weights, **strengths}, {"params": rest, **dict.fromkeys(strengths, 0.0)}]


def _split(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {_kind(model)}; it must be an nn.Module")
    found = list(model.parameters())
    return [p for p in found if p.dim() >= 2], [p for p in found if p.dim() < 2]


def _tensors(params: Any) -> list[Tensor]:
    found = [params] if isinstance(params, Tensor) else list(params) if isinstance(params, Iterable) else None
    if found is None:
        raise TypeError(f"params is {_kind(params)}; it must be a tensor or an iterable of tensors")
    if not found:
        raise ValueError("params is empty; give at least one tensor (a generator can be walked only once)")
    for p in found:
        if not isinstance(p, Tensor) or not p.is_floating_point():
            raise TypeError(f"params holds {_kind(p)}; it must hold floating-point tensors")
        _dense(params=p)
    return found


def _dense(**tensors: Any) -> None:
    arguments.floating(**tensors)
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided:
            raise ValueError(f"{name} has layout {tensor.layout}; it must be dense")


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _total(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    for part in others:
        first = first + part
    return first


def _kind(value: Any) -> str:
    return f"a tensor of dtype {value.dtype}" if isinstance(value, Tensor) else f"{value!r:.40}"
