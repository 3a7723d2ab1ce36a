"""The weights a network starts from: Xavier, He and orthogonal draws, the gain of a nonlinearity, and what they are for.

Explained in the chapter `initialization`. Names and signatures are those of `torch.nn.init`. Sources: Glorot & Bengio 2010
(Xavier); He, Zhang, Ren & Sun 2015, arXiv:1502.01852 (He); Saxe, McClelland & Ganguli 2013, arXiv:1312.6120 (orthogonal);
Poole et al. 2016, arXiv:1606.05340 (the map of variances); Gers et al. 2000 and Jozefowicz et al. 2015 (forget gates).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tiedlib import _arguments as arguments

__all__ = [
    "calculate_gain",
    "carried_moments",
    "fan_in_and_fan_out",
    "forget_gate_bias_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "moment_map",
    "orthogonal_",
    "xavier_normal_",
    "xavier_uniform_",
]

Nonlinearity = Callable[[Tensor], Tensor]
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
LINEAR = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def fan_in_and_fan_out(tensor: Float[Tensor, "*shape"]) -> tuple[int, int]:
    """n_in, n_out: how many numbers each output is summed from, and how many outputs each input goes to.

    A weight is (out, in, *kernel) as torch stores it: n_in = in · ∏ kernel, n_out = out · ∏ kernel. For an embedding (words,
    dim) these are dim and words, which say nothing about a lookup. Raises ValueError for fewer than two dimensions.
    """
    arguments.floating(tensor=tensor)
    if tensor.dim() < 2:
        raise ValueError(
            f"tensor has shape {tuple(tensor.shape)}; fan-in and fan-out need at least the two dimensions (out, in)"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def calculate_gain(nonlinearity: str, param: int | float | None = None) -> float:
    """The factor g on the weights' standard deviation for the nonlinearity after them: torch's table.

        linear, conv…, sigmoid  1      tanh  5/3      relu  √2      leaky_relu  √(2 / (1 + a²))      selu  3/4

    a = param is the slope below 0 (default 0.01), used by leaky_relu alone. √2 and the formula for a follow from the factor
    E[f(y)²] / Var(y) of He et al. 2015, section 2.2; 5/3 and 3/4 were found by trial. Raises ValueError for another name or a
    param that is not finite, TypeError for a param that is no number.
    """
    if nonlinearity in GAINS or nonlinearity in LINEAR:
        return GAINS.get(nonlinearity, 1.0)
    if nonlinearity != "leaky_relu":
        known = ", ".join(sorted([*GAINS, "leaky_relu", *LINEAR]))
        raise ValueError(f"nonlinearity is {nonlinearity!r}; it must be one of {known}")
    slope = 0.01 if param is None else param
    arguments.number("param", slope)
    return math.sqrt(2 / (1 + slope**2))


def xavier_uniform_(
    tensor: Float[Tensor, "*shape"], gain: int | float = 1.0, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """W ~ U[−a, a],   a = g √(6 / (n_in + n_out)),   Var W = 2g² / (n_in + n_out).   Glorot & Bengio 2010, equation 16.

    Fills `tensor` in place and returns it; g = gain. Raises TypeError for a dtype that is not floating, ValueError for fewer
    than two dimensions, or a gain that is negative, not finite, or too large for the dtype.
    """
    return _uniform_(tensor, _xavier_std(tensor, gain), generator)


def xavier_normal_(
    tensor: Float[Tensor, "*shape"], gain: int | float = 1.0, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """W ~ N(0, 2g² / (n_in + n_out)).   Glorot & Bengio 2010; as `xavier_uniform_` otherwise."""
    return _normal_(tensor, _xavier_std(tensor, gain), generator)


def kaiming_uniform_(
    tensor: Float[Tensor, "*shape"],
    a: int | float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """W ~ U[−b, b],   b = g √(3 / n),   Var W = g² / n,   g = calculate_gain(nonlinearity, a).   He et al. 2015.

    n is n_in (mode "fan_in": the forward pass keeps its second moment) or n_out ("fan_out": the backward pass does). With
    a = 0, the default, Var W = 2 / n: the rule for ReLU. (`nn.Linear` starts from a = √5, which gives Var W = 1 / (3 n_in).)
    Fills in place and returns. Raises as `xavier_uniform_` and `calculate_gain`, ValueError for another mode.
    """
    return _uniform_(tensor, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_normal_(
    tensor: Float[Tensor, "*shape"],
    a: int | float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """W ~ N(0, g² / n).   He et al. 2015, equations 10 and 14; as `kaiming_uniform_` otherwise."""
    return _normal_(tensor, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(
    tensor: Float[Tensor, "*shape"], gain: int | float = 1, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """W = g Q with QᵀQ = I (or QQᵀ = I where W has fewer rows than columns), uniform over such Q.   Saxe et al. 2013.

    Q is the first factor of A = QR for a Gaussian A, each column times the sign of R's diagonal entry, which makes Q uniform.
    Trailing dimensions count as one. float16 and bfloat16 are computed in float32. Fills in place and returns; raises as
    `xavier_uniform_`.
    """
    _checked(tensor, gain)
    fan_in_and_fan_out(tensor)  # at least two dimensions
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    drawn = torch.empty(rows, columns, dtype=dtype, device=tensor.device).normal_(0, 1, generator=generator)
    q, r = torch.linalg.qr(drawn.T if rows < columns else drawn)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(dtype)
    with torch.no_grad():
        return tensor.copy_(gain * (q.T if rows < columns else q).reshape(tensor.shape))


def forget_gate_bias_(lstm: nn.LSTM, value: int | float = 1.0) -> nn.LSTM:
    """b_f ← value in every layer and direction, so that at the start f = σ(b_f + …) lets most of the cell through.

        c_t = f ⊙ c_{t−1} + i ⊙ g        ∂c_T / ∂c_0 ≈ σ(value)^T   along the cell

    The gates stand in the order i, f, g, o (torch). Of torch's two biases the first gets `value` and the second 0, for only
    their sum acts. The other gates' biases are left. Gers et al. 2000 (the gate); Jozefowicz et al. 2015 (value 1). Raises
    TypeError for another module, ValueError for a module without biases or a value that is not finite.
    """
    if not isinstance(lstm, nn.LSTM):
        raise TypeError(f"lstm is a {type(lstm).__name__}; it must be an nn.LSTM")
    if not lstm.bias:
        raise ValueError("lstm has bias=False; a forget gate's bias needs bias=True")
    arguments.number("value", value)
    gate = slice(lstm.hidden_size, 2 * lstm.hidden_size)
    with torch.no_grad():
        for name, tensor in [*lstm.named_parameters(), *lstm.named_buffers()]:
            if name.startswith("bias_"):
                tensor[gate] = value if name.startswith("bias_ih") else 0.0
    return lstm


def moment_map(
    f: Nonlinearity, q: int | float, forward_gain: int | float = 1.0, backward_gain: int | float | None = None
) -> tuple[float, float]:
    """What one wide layer does to second moments, q = E[y²]:   q ↦ s E[f(√q z)²],   factor s' E[f′(√q z)²],   z ~ N(0, 1).

    y_l = W_l f(y_{l−1}); s = forward_gain = n_in Var W and s' = backward_gain = n_out Var W (default s). The first number is
    E[y²] one layer on, the second what E[(∂L/∂y)²] is multiplied with one layer back. Exact as the width grows, for weights
    with mean 0 and no bias (Poole et al. 2016, section 2). The integral is a midpoint sum over |z| < 9, so f may have a
    kink at 0. Raises ValueError for a q or a gain that is negative or not finite.
    """
    back = forward_gain if backward_gain is None else backward_gain
    for name, value in (("q", q), ("forward_gain", forward_gain), ("backward_gain", back)):
        arguments.number(name, value, "at least 0 and finite")
    width = 1 / 256
    z = torch.arange(-9 + width / 2, 9, width, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) * (width / math.sqrt(2 * math.pi))
    value_at, slope_at = _with_slope(f, math.sqrt(q) * z)
    return (forward_gain * (density @ value_at.square())).item(), (back * (density @ slope_at.square())).item()


def carried_moments(
    weights: Sequence[Float[Tensor, "_ _"]],
    x: Float[Tensor, "batch in"],
    f: Nonlinearity,
    grad: Float[Tensor, "batch out"] | None = None,
) -> tuple[Float[Tensor, " layers"], Float[Tensor, " layers"]]:
    """The second moments that a network carries: E[y_l²] forward and E[(∂L/∂y_l)²] backward, l = 1 … L.

        y_1 = W_1 x,    y_{l+1} = W_{l+1} f(y_l)              ∂L/∂y_l = f′(y_l) ⊙ W_{l+1}ᵀ ∂L/∂y_{l+1}

    Means over batch and units; float16 and bfloat16 are computed in float32. grad is ∂L/∂y_L (default: all ones, made of
    L = Σ y_L). NaN for an empty batch. Raises ValueError where a matrix does not fit what it is given.
    """
    arguments.floating(x=x)
    weights, x, grad = [_wide(w) for w in weights], _wide(x), None if grad is None else _wide(grad)
    ys, slopes, h = [], [], x
    for k, w in enumerate(weights):
        if w.shape[1] != h.shape[1]:
            raise ValueError(f"weights[{k}] takes {w.shape[1]} numbers and is given {h.shape[1]}; they must be equal")
        ys.append(h @ w.T)
        h, slope = _with_slope(f, ys[-1])
        slopes.append(slope)
    if not ys:
        raise ValueError("weights is empty; a network has at least one matrix")
    if grad is not None and grad.shape != ys[-1].shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)}; it must be that of the output, {tuple(ys[-1].shape)}")
    deltas = [torch.ones_like(ys[-1]) if grad is None else grad]
    for w, slope in zip(reversed(weights[1:]), reversed(slopes[:-1]), strict=True):
        deltas.append(slope * (deltas[-1] @ w))
    return torch.stack([y.square().mean() for y in ys]), torch.stack([d.square().mean() for d in reversed(deltas)])


def _wide(x: Tensor) -> Tensor:
    """A square of 256 is too large for float16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _with_slope(f: Nonlinearity, y: Tensor) -> tuple[Tensor, Tensor]:
    """f(y) and f′(y), entry by entry: f acts on each entry alone, so the gradient of the sum holds every derivative."""
    with torch.enable_grad():
        at = y if y.requires_grad else y.detach().requires_grad_()
        value = f(at)
        (slope,) = torch.autograd.grad(value.sum(), at, create_graph=y.requires_grad, materialize_grads=True)
    return (value if y.requires_grad else value.detach()), slope


def _xavier_std(tensor: Tensor, gain: int | float) -> float:
    return _checked(tensor, gain) * math.sqrt(2 / max(sum(fan_in_and_fan_out(tensor)), 1))


def _kaiming_std(tensor: Tensor, a: int | float, mode: str, nonlinearity: str) -> float:
    arguments.choice("mode", mode, ("fan_in", "fan_out"))
    arguments.number("a", a)
    gain = _checked(tensor, calculate_gain(nonlinearity, a))
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    return gain / math.sqrt(max(fan_in if mode == "fan_in" else fan_out, 1))  # 1: an empty tensor has nothing to fill


def _checked(tensor: Tensor, gain: int | float) -> float:
    arguments.floating(tensor=tensor)
    arguments.number("gain", gain)
    largest = torch.finfo(tensor.dtype).max / 16  # room for the tails of a normal draw
    if not 0 <= gain <= largest:
        raise ValueError(f"gain is {gain}; it must be at least 0, finite, and at most {largest:.0f} for {tensor.dtype}")
    return float(gain)


def _uniform_(tensor: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    limit = math.sqrt(3) * std
    with torch.no_grad():
        return tensor.uniform_(-limit, limit, generator=generator)


def _normal_(tensor: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    with torch.no_grad():
        return tensor.normal_(0, std, generator=generator)
