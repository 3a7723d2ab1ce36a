"""Update rules as pure functions, and one thin `torch.optim.Optimizer` for each.

Explained in the chapter `optimizers`. A rule maps a gradient to a step and knows nothing of modules or loops:

    step, state = rule(grad, state, param, **hyper)        θ ← θ + step,    state = {} before the first step

so that one rule serves a training loop, a batched grid of models under `torch.func.vmap`, and a proof. States and
hyper-parameters carry torch's names; one that is a tensor is never looked at, so that it may differ from run to run of a
grid. A rate of 0 moves nothing and still gathers the state, as in torch: a warm-up may start there and a schedule end there.
Gradients in float16 and bfloat16 are taken to float32, in which the state is kept: g² would overflow from 256 on. The step has
the gradient's type. Every rule raises ValueError for a hyper-parameter outside its range (lr ≥ 0, eps > 0, coefficients in
[0, 1), penalties ≥ 0), a sparse gradient or unequal shapes, TypeError for integers. Not here: amsgrad, maximize, complex numbers.

Sources: Robbins & Monro 1951 (SGD); Polyak 1964 and Sutskever et al. 2013 (momentum); Duchi et al. 2011 (AdaGrad); Tieleman &
Hinton 2012, lecture 6.5 (RMSProp); Kingma & Ba 2015, arXiv:1412.6980 (Adam); Loshchilov & Hutter 2019, arXiv:1711.05101 (AdamW).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tiedlib import _arguments as arguments

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Momentum",
    "RMSprop",
    "RuleOptimizer",
    "adagrad",
    "adam",
    "adamw",
    "momentum",
    "rmsprop",
    "sgd",
]

State = dict[str, Any]
Array = Float[Tensor, "*shape"]
Step = tuple[Array, State]
Scalar = int | float | Float[Tensor, ""]  # a tensor where a grid of runs has one value each


def sgd(grad: Array, state: State, param: Array, *, lr: Scalar = 1e-3, weight_decay: Scalar = 0.0) -> Step:
    """Δθ = −η (g + λθ).   Plain stochastic gradient descent; λ = weight_decay, the gradient of ½λ‖θ‖²."""
    _check(grad, param, lr=lr, weight_decay=weight_decay)
    return (-lr * _penalized(grad, param, weight_decay)).to(grad.dtype), state


def momentum(
    grad: Array,
    state: State,
    param: Array,
    *,
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.9,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    averaged: bool = False,
) -> Step:
    """m_t = μm_{t−1} + (1−d)g_t,   Δθ = −ηm_t;   nesterov: Δθ = −η (g_t + μm_t)        heavy ball, as torch.optim.SGD

    Here d is the dampening, and m₁ = g₁ whatever d (torch's start). averaged=True is the other convention, a running mean:

        m₀ = 0,   m_t = βm_{t−1} + (1−β)g_t,   Δθ = −ηm_t        β = momentum; nesterov: Δθ = −η ((1−β)g_t + βm_t)

    It equals the heavy ball at the rate η(1−β). Polyak 1964; Nesterov's form as in Sutskever et al. 2013, section 2.
    """
    _check(grad, param, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    if (nesterov or averaged) and not arguments.is_zero(dampening):
        raise ValueError(f"dampening is {dampening}; it must be 0 with nesterov or averaged")
    dtype, grad = grad.dtype, _penalized(grad, param, weight_decay)
    m = state.get("momentum_buffer")
    share = (1 - momentum) * grad if averaged else grad
    m = share if m is None else momentum * m + (share if arguments.is_zero(dampening) else (1 - dampening) * grad)
    return (-lr * (share + momentum * m if nesterov else m)).to(dtype), {"momentum_buffer": m}


def adagrad(
    grad: Array,
    state: State,
    param: Array,
    *,
    lr: Scalar = 1e-2,
    lr_decay: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    initial_accumulator_value: Scalar = 0.0,
    eps: Scalar = 1e-10,
) -> Step:
    """v_t = v_{t−1} + g²,   Δθ = −η g / (√v_t + ε),   elementwise; v₀ = initial_accumulator_value.

    With lr_decay c the rate is η / (1 + (t−1)c). Duchi et al. 2011, diagonal form; ε as in torch. v is kept as sum.
    """
    start = initial_accumulator_value
    _check(grad, param, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=start, eps=eps)
    dtype, grad = grad.dtype, _penalized(grad, param, weight_decay)
    step = state.get("step", 0) + 1
    v = (state["sum"] if state else start) + grad.square()
    return (-lr / (1 + (step - 1) * lr_decay) * grad / (v.sqrt() + eps)).to(dtype), {"step": step, "sum": v}


def rmsprop(
    grad: Array,
    state: State,
    param: Array,
    *,
    lr: Scalar = 1e-2,
    alpha: Scalar = 0.99,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    centered: bool = False,
) -> Step:
    """v₀ = 0,   v_t = αv_{t−1} + (1−α)g²,   Δθ = −η g / (√v_t + ε),   elementwise; the slides' β is alpha.

    centered takes √(v_t − ḡ_t²) with ḡ_t the running mean of g, the gradient's standard deviation. With momentum μ the
    ratio r = g / (√v_t + ε) is gathered: B_t = μB_{t−1} + r, Δθ = −ηB_t. The zero start is not corrected. Tieleman & Hinton 2012.
    """
    _check(grad, param, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    dtype, grad = grad.dtype, _penalized(grad, param, weight_decay)
    new = {"step": state.get("step", 0) + 1, "square_avg": _mean(state.get("square_avg"), grad.square(), alpha)}
    v = new["square_avg"]
    if centered:
        new["grad_avg"] = _mean(state.get("grad_avg"), grad, alpha)
        v = (v - new["grad_avg"].square()).clamp(min=0).nan_to_num(math.inf)  # rounded below 0; inf − inf for huge g
    ratio = grad / (v.sqrt() + eps)
    if not arguments.is_zero(momentum):
        ratio = new["momentum_buffer"] = momentum * state.get("momentum_buffer", 0.0) + ratio
    return (-lr * ratio).to(dtype), new


def adam(
    grad: Array,
    state: State,
    param: Array,
    *,
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
) -> Step:
    """m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  Δθ = −η (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε),   t = 1, 2, …

    Kingma & Ba 2015, Algorithm 1; ε stands outside the root, as in torch. weight_decay adds λθ to g (the L2 penalty, not
    AdamW's decay). m, v and t are kept as exp_avg, exp_avg_sq and step.
    """
    _check(grad, param, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    step, state = _adam(_penalized(grad, param, weight_decay), state, lr, betas, eps)
    return step.to(grad.dtype), state


def _adam(grad: Tensor, state: State, lr: Scalar, betas: tuple[Scalar, Scalar], eps: Scalar) -> tuple[Tensor, State]:
    """Adam's step in the type in which the state is kept."""
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    m = _mean(state.get("exp_avg"), grad, beta1)
    v = _mean(state.get("exp_avg_sq"), grad.square(), beta2)
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return -lr * m_hat / (v_hat.sqrt() + eps), {"step": step, "exp_avg": m, "exp_avg_sq": v}


def adamw(
    grad: Array,
    state: State,
    param: Array,
    *,
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
) -> Step:
    """Δθ = −ηλθ + (Adam's step without a penalty).   Loshchilov & Hutter 2019, Algorithm 2; the rate in the decay as in torch."""
    _check(grad, param, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    step, state = _adam(_wide(grad), state, lr, betas, eps)
    theta = _wide(param)
    return (theta * (1 - lr * weight_decay) + step - theta).to(
        grad.dtype
    ), state  # in this order: rounded as torch rounds


class RuleOptimizer(torch.optim.Optimizer):
    """A `torch.optim.Optimizer` around one rule: parameter groups, state_dict, closures and torch's schedulers work as usual.

    RuleOptimizer(params, rule, **hyper); the subclasses fix the rule. Their state_dict fits torch's optimizer of the same name
    and torch's fits theirs (Momentum: torch.optim.SGD; averaged=True has no fellow there). Raises what the rules raise, and
    ValueError for an option of torch's that is not here, such as amsgrad=True or fused=True (their values for "off" are taken),
    TypeError for parameters of integer type. What is refused has changed nothing: neither a parameter, nor a group, nor a state.
    """

    fixed: ClassVar[dict[str, Any]] = {}  # torch's options that the rule has not, and the one value each may have
    takes_scale = True  # tells a training loop that `step` has the option scale

    def __init__(self, params: Iterable[Any], rule: Callable[..., tuple[Tensor, State]], **hyper: Any) -> None:
        self.rule, self.hyper = rule, tuple(hyper)
        super().__init__(params, hyper)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, and checks the group's hyper-parameters and dtypes first."""
        if isinstance(param_group, dict):  # else torch says what it must be
            # In the groups, so that torch reads them, and not among the defaults: there a schedule asks what can be cycled.
            param_group = {**self.fixed, **param_group}
            self._check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)
        if wrong := [p.dtype for p in self.param_groups[-1]["params"] if not p.is_floating_point()]:
            self.param_groups.pop()
            raise TypeError(f"params holds a tensor of dtype {wrong[0]}; only floating-point parameters can move")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, scale: Scalar | None = None) -> Any:
        """One update of what has a gradient, by scale · gradient (clipping's factor; .grad stays); returns the closure's loss."""
        for group in self.param_groups:  # a schedule, or a reader, may have written anything there
            self._check_group(group)
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            hyper = {name: _scalar(group[name]) for name in self.hyper}
            for p in (p for p in group["params"] if p.grad is not None):
                _check(p.grad, p)
                if (
                    self.rule is sgd and p.is_cpu and arguments.is_zero(hyper["weight_decay"])
                ):  # in one pass; a GPU would wait
                    p.add_(p.grad, alpha=-float(hyper["lr"]) * (1.0 if scale is None else float(scale)))
                    continue
                grad = p.grad if scale is None else _wide(p.grad) * scale
                step, state = self.rule(grad, self.state.get(p, {}), p, **hyper)
                p.add_(step)
                self.state.update({p: state} if state else {})
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; a state in float32 stays in it where its parameter is in half precision."""
        super().load_state_dict(state_dict)
        names = itertools.chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for name, p in zip(names, itertools.chain.from_iterable(g["params"] for g in self.param_groups), strict=True):
            for key, value in state_dict["state"].get(name, {}).items() if p.dtype in _HALF else ():
                if isinstance(value, Tensor) and value.is_floating_point():
                    self.state[p][key] = value.to(p.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rule": self.rule, "hyper": self.hyper}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also what load_state_dict ends in: fills in what torch's groups have not, refuses what the rule has not."""
        before = dict(self.__dict__)
        super().__setstate__(state)
        try:
            for group in self.param_groups:
                for name in self.hyper:
                    group.setdefault(name, self.defaults[name])
                self._check_group(group)
        except (TypeError, ValueError):
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        for kept in (k for k in self.state.values() if "step" in k):
            kept["step"] = int(kept["step"])  # torch counts in float32 tensors, whose powers of β lose digits

    def _check_group(self, group: dict[str, Any]) -> None:
        hyper = {name: group[name] for name in self.hyper if name in group}
        for name, value in hyper.items():
            _check_one_number(name, value)
        _check_hyper({name: _seen(value) for name, value in hyper.items()})
        for name, value in self.fixed.items():
            if group.get(name, value) != value:
                raise ValueError(f"{name} is {group[name]}; {type(self).__name__} has only {name}={value}")


class _Named(RuleOptimizer):
    """A subclass names its rule; its arguments are params and the rule's own, in the rule's order, with the rule's defaults.

    torch's further options are taken where they ask for nothing.
    """

    named: ClassVar[Callable[..., Any]]
    fixed: ClassVar[dict[str, Any]] = {"maximize": False, "differentiable": False}
    ways: ClassVar[dict[str, Any]] = {
        "foreach": None,
        "capturable": False,
        "fused": None,
    }  # torch's, to compute the same
    by_name: ClassVar[tuple[str, ...]] = ()  # arguments that torch has in another place

    def __init_subclass__(cls) -> None:
        own = [p for p in signature(cls.named).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
        placed = [p if p.name in cls.by_name else p.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for p in own]
        cls.__signature__ = Signature([Parameter("params", Parameter.POSITIONAL_OR_KEYWORD), *placed])  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **hyper: Any) -> None:
        for name, off in {**self.ways, **self.fixed}.items():
            value = hyper.pop(name, off)
            if value not in (off, False if off is None else off):
                raise ValueError(f"{name} is {value}; {type(self).__name__} has only {name}={off}")
        given = signature(type(self)).bind(*args, **hyper)
        given.apply_defaults()
        super().__init__(given.arguments.pop("params"), type(self).named, **given.arguments)


class SGD(_Named):
    """Plain stochastic gradient descent; see `sgd`. As torch.optim.SGD without momentum, for which there is `Momentum`."""

    named = staticmethod(sgd)
    by_name = ("weight_decay",)  # torch's third is the momentum
    fixed: ClassVar[dict[str, Any]] = {**_Named.fixed, "momentum": 0, "dampening": 0, "nesterov": False}


class Momentum(_Named):
    """Heavy ball or running mean; see `momentum`. As torch.optim.SGD with momentum, and averaged."""

    named = staticmethod(momentum)


class Adagrad(_Named):
    """Divides by the root of the sum of squares; see `adagrad`. As torch.optim.Adagrad."""

    named = staticmethod(adagrad)

    def state_dict(self) -> dict[str, Any]:
        """As torch's, whose Adagrad wants a sum for every parameter, stepped or not."""
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = self.state[p] or {"step": 0, "sum": torch.full_like(p, group[_START])}
        return super().state_dict()


class RMSprop(_Named):
    """Divides by the root of a running mean of squares; see `rmsprop`. As torch.optim.RMSprop."""

    named = staticmethod(rmsprop)


class Adam(_Named):
    """Adam with bias correction; see `adam`. As torch.optim.Adam."""

    named = staticmethod(adam)
    fixed: ClassVar[dict[str, Any]] = {**_Named.fixed, "amsgrad": False, "decoupled_weight_decay": False}


class AdamW(_Named):
    """Adam with decoupled weight decay; see `adamw`. As torch.optim.AdamW."""

    named = staticmethod(adamw)
    fixed: ClassVar[dict[str, Any]] = {**_Named.fixed, "amsgrad": False, "decoupled_weight_decay": True}


def _penalized(grad: Tensor, param: Tensor, weight_decay: Scalar) -> Tensor:
    grad = _wide(grad)
    return grad if arguments.is_zero(weight_decay) else grad + weight_decay * param


def _mean(old: Tensor | None, new: Tensor, beta: Scalar) -> Tensor:
    return (1 - beta) * new if old is None else beta * old + (1 - beta) * new  # starts at 0


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


def _scalar(value: Any) -> Any:
    """torch takes a rate as a tensor of shape (1,) too, which would give a parameter without axes one."""
    return value.reshape(()) if isinstance(value, Tensor) else value


def _seen(value: Any) -> Any:
    """A number that a tensor holds, where to look at it makes no device wait."""
    return float(value) if isinstance(value, Tensor) and value.device.type == "cpu" else value


def _check_one_number(name: str, value: Any) -> None:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it must hold one number")


def _check(grad: Tensor, param: Tensor, **hyper: Any) -> None:
    _check_hyper(hyper)
    arguments.floating(grad=grad, param=param)
    if grad.layout is not torch.strided:
        raise ValueError(f"grad of a {tuple(param.shape)} parameter is sparse; use a dense embedding (sparse=False)")
    if grad.shape != param.shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)} and param {tuple(param.shape)}; they must be equal")


_HALF = (torch.float16, torch.bfloat16)
_START = "initial_accumulator_value"
_RULES = {
    **dict.fromkeys(("betas", "alpha", "momentum"), "in [0, 1)"),
    "eps": "positive and finite",
    **dict.fromkeys(("lr", "weight_decay", "lr_decay", _START), "at least 0 and finite"),
    "dampening": "in [0, 1]",
}


def _check_hyper(hyper: dict[str, Any]) -> None:
    for name in filter(_RULES.__contains__, hyper):
        if name == "betas" and not (isinstance(hyper[name], (tuple, list)) and len(hyper[name]) == 2):
            raise TypeError(f"betas is {hyper[name]!r}; it must be a pair of numbers")
        for k, part in enumerate(hyper[name] if name == "betas" else (hyper[name],)):
            arguments.number(f"betas[{k}]" if name == "betas" else name, part, _RULES[name])
