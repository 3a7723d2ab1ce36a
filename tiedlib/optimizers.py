"""Update rules as pure functions, and one thin `torch.optim.Optimizer` for each.

Explained in the chapter `optimizers`. A rule maps a gradient to a step and knows nothing of modules or loops:

    step, state = rule(grad, state, param, **hyper)        θ ← θ + step,    state = {} before the first step

so that one rule serves a training loop, a batched grid of models under `torch.func.vmap`, and a proof. States and
hyper-parameters carry torch's names. Sources: Robbins & Monro 1951 (SGD); Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1 (Adam).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SGD", "Adam", "RuleOptimizer", "adam", "sgd"]

State = dict[str, Any]


def sgd(
    grad: Float[Tensor, "*shape"],
    state: State,
    param: Float[Tensor, "*shape"],
    *,
    lr: float = 1.0,
    weight_decay: float = 0.0,
) -> tuple[Float[Tensor, "*shape"], State]:
    """Δθ = −η (g + λθ).   Plain stochastic gradient descent; λ = weight_decay, the gradient of ½λ‖θ‖²."""
    if weight_decay:
        grad = grad + weight_decay * param
    return -lr * grad, state


def adam(
    grad: Float[Tensor, "*shape"],
    state: State,
    param: Float[Tensor, "*shape"],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Float[Tensor, "*shape"], State]:
    """m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  Δθ = −η (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε),   t = 1, 2, …

    Kingma & Ba 2015, Algorithm 1; ε stands outside the root, as in torch. weight_decay adds λθ to g (the L2 penalty, not
    AdamW's decay). m, v and t are kept as exp_avg, exp_avg_sq and step.
    """
    if weight_decay:
        grad = grad + weight_decay * param
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    m = beta1 * state["exp_avg"] + (1 - beta1) * grad if state else (1 - beta1) * grad
    v = beta2 * state["exp_avg_sq"] + (1 - beta2) * grad.square() if state else (1 - beta2) * grad.square()
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return -lr * m_hat / (v_hat.sqrt() + eps), {"step": step, "exp_avg": m, "exp_avg_sq": v}


class RuleOptimizer(torch.optim.Optimizer):
    """A `torch.optim.Optimizer` around one rule: parameter groups, state_dict, closures and torch's schedulers work as usual.

    RuleOptimizer(params, rule, **hyper); the subclasses `SGD` and `Adam` fix the rule. Raises ValueError for a
    hyper-parameter outside its range and for sparse gradients, TypeError for parameters of integer type.
    """

    def __init__(self, params: Iterable[Any], rule: Callable[..., tuple[Tensor, State]], **hyper: Any) -> None:
        self.rule = rule
        self.hyper = tuple(hyper)  # torch adds names of its own to self.defaults
        super().__init__(params, hyper)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, and checks the group's hyper-parameters and dtypes first."""
        _check_hyper(**{**self.defaults, **param_group})
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if not p.is_floating_point():
                raise TypeError(
                    f"params holds a tensor of dtype {p.dtype}; an optimizer moves floating-point parameters"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; returns the closure's loss where a closure is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            hyper = {name: group[name] for name in self.hyper}
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise ValueError(
                        f"the gradient of a {tuple(p.shape)} parameter is sparse; use a dense embedding (sparse=False)"
                    )
                step, state = self.rule(p.grad, self.state.get(p, {}), p, **hyper)
                p.add_(step)
                if state:
                    self.state[p] = state
        return loss


class SGD(RuleOptimizer):
    """Plain stochastic gradient descent, Δθ = −η (g + λθ); see `sgd`. As torch.optim.SGD without momentum."""

    def __init__(self, params: Iterable[Any], lr: float = 1.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, sgd, lr=lr, weight_decay=weight_decay)


class Adam(RuleOptimizer):
    """Adam with bias correction; see `adam`. As torch.optim.Adam."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, adam, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def _check_hyper(
    lr: float = 1.0, betas: tuple[float, float] = (0.0, 0.0), eps: float = 1.0, weight_decay: float = 0.0, **_: Any
) -> None:
    # `not (a > b)` rather than `a <= b`: a NaN must not pass.
    if not 0.0 < lr < math.inf:
        raise ValueError(f"lr is {lr}; the learning rate must be positive and finite")
    for beta in betas:
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"betas is {tuple(betas)}; each must lie in [0, 1)")
    if not 0.0 < eps < math.inf:
        raise ValueError(f"eps is {eps}; it must be positive and finite")
    if not 0.0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay is {weight_decay}; it must be at least 0 and finite")
