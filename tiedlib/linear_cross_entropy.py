"""Output layer and loss as one function: from the last hidden state to nats, and back, without the whole of the logits.

Explained in the chapters `tying` (what the two roles of an embedding do to its gradient) and `fast_output` (how the cost
of a large vocabulary is cut). Naming and arguments follow `torch.nn.functional.cross_entropy` and `linear`.

The logits of all rows are the largest thing in a language model's step, and the plain pair of calls makes three such
matrices. Here the rows go through in blocks. A block's logits are turned into its gradient where they lie, and that is
multiplied out at once, **in the forward pass**; backward only scales. What a scalar loss needs afterwards is ∂/∂h and ∂/∂V.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from tiedlib import _arguments as arguments
from tiedlib._matrix_products import OuterSum, linear, room, softmax_
from tiedlib._plain_cross_entropy import (
    HALF,
    Task,
    check_target,
    is_batch,
    leaves_range,
    only_plain,
    plain,
    plain_gradients,
)

__all__ = ["linear_cross_entropy"]

REDUCTIONS = ("mean", "sum", "none")
# Bytes of a block's logits. On a processor: less than the 32 MiB from which the C library hands memory back to the system
# at every step, and gets it again page by page; large enough that the products run at full speed.
BLOCK = {"cpu": 24 * 2**20, "cuda": 256 * 2**20}
# Of half-precision logits, so many bytes at a time are taken to float32 and back: what stays in a processor's cache.
PART = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
# A probability this small still has all its digits in float32; below 1.2e-38 it would lose them.
TINY = 1e-30


def linear_cross_entropy(
    input: Float[Tensor, "*batch dim"],
    linear_weight: Float[Tensor, "vocab dim"],
    target: Integer[Tensor, "*batch"],
    *,
    linear_bias: Float[Tensor, " vocab"] | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "*loss"]:
    """Cross-entropy of a softmax over `linear_weight @ h + linear_bias`, in nats.

        z = V h + b,    ℓ(h, o) = −log softmax(z)_o = log Σ_x exp(z_x) − z_o,    ∂ℓ/∂z = softmax(z) − 1_o
        with label smoothing ε:  (1 − ε) ℓ(h, o) + (ε / C) Σ_x ℓ(h, x),          ∂/∂z = softmax(z) − (1 − ε) 1_o − ε / C

    Shapes: input h (*batch, dim), linear_weight V (vocab = C, dim), target o (*batch), linear_bias b (vocab). The result
    is a scalar, or has target's shape with reduction="none". "mean" divides by the number of targets that are not
    `ignore_index` and is NaN where there are none, as in torch; the gradient is then 0.

    Products are taken in the inputs' dtype, or in autocast's; softmax, loss and sums over rows in float32 at least; where a
    logit or a gradient is beyond the range of half precision, all in float64. The
    result has the dtype that `F.cross_entropy(F.linear(…))` gives: float32 under autocast, else the inputs'. Gradients are
    made only for what requires them, and none while gradients are off, so evaluation is this same call. With
    reduction="none" each row's weight is known in backward alone, and the logits are computed there once more.

    There are first derivatives only, batched ones too (`is_grads_batched`). Under the transforms of `torch.func` (grad, vmap,
    …), with forward-mode tangents, in `torch.compile`, for subclasses of Tensor (FakeTensor, DTensor) and on devices other
    than processor and CUDA the plain pair of calls is taken, with all that it can do.

    Raises TypeError for a target or an ignore_index that is not of integer type or unequal dtypes, ValueError for shapes that
    do not fit, an unknown reduction, a label_smoothing outside [0, 1], or a target outside 0 … vocab − 1 that is not
    `ignore_index`; RuntimeError where a second derivative is taken.
    """
    _check(input, linear_weight, target, linear_bias, reduction, ignore_index, label_smoothing)
    h, o = input.reshape(target.numel(), input.shape[-1]), target.reshape(-1).long()
    limited = only_plain(input, linear_weight, linear_bias)
    if not limited:
        dtype, result = _dtypes(input, linear_weight, linear_bias)
        check_target(o, ignore_index, linear_weight.shape[0])
    if limited or not linear_weight.numel():
        loss = plain(h, linear_weight, linear_bias, o, reduction, ignore_index, label_smoothing)
        return loss.reshape(target.shape) if reduction == "none" else loss
    kept = o != ignore_index
    task = Task(o.where(kept, 0), kept, dtype, label_smoothing, reduction == "mean")
    function = _PerRow if reduction == "none" else _Total
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (h, linear_weight, linear_bias)):
        loss = function.apply(h, linear_weight, linear_bias, task)
    else:
        loss = _run(h, linear_weight, linear_bias, task, (False, False, False)).loss
        loss = loss if reduction == "none" else loss.sum() / (kept.sum() if task.mean else 1)
    return (loss.reshape(target.shape) if reduction == "none" else loss).to(result)


class _Done(NamedTuple):
    loss: Tensor  # of each row; 0 where it is ignored
    h: Tensor | None  # gradients, each None where it is not wanted
    weight: OuterSum
    bias: Tensor | None


def _run(
    h: Tensor, weight: Tensor, bias: Tensor | None, task: Task, wants: tuple[bool, ...], factor: Tensor | None = None
) -> _Done:
    """Losses of all rows, and the wanted gradients of Σ_r factor_r ℓ_r (factor None: 1 for every row that counts)."""
    with torch.no_grad(), torch.autocast(h.device.type, enabled=False):
        sums = torch.float32 if task.dtype in HALF else task.dtype
        x, v = h.to(task.dtype).contiguous(), weight.to(task.dtype)
        b = None if bias is None else bias.to(task.dtype).contiguous()
        factor = task.kept.to(sums) if factor is None else factor.to(sums) * task.kept
        loss = torch.zeros(len(x), dtype=sums, device=h.device)
        d_h = torch.zeros_like(x, dtype=sums) if wants[0] else None
        d_weight = OuterSum(None if len(x) else torch.zeros_like(v, dtype=sums), None if len(x) else False)
        d_b = torch.zeros(len(v), dtype=sums, device=h.device) if wants[2] else None
        blocks = _blocks(len(x), len(v) * task.dtype.itemsize, BLOCK[h.device.type])
        place = room(blocks[0].stop, x, v) if blocks else None  # of a block's logits; the next block takes it again
        for at in blocks:
            # the logits, and ∂ℓ/∂z when the parts are through
            g = linear(x[at], v, b, None if place is None else place[: len(x[at])])
            rows = factor[at, None]
            parts = [slice(0, len(g))]
            if g.dtype is not sums:
                parts = _blocks(len(g), len(v) * sums.itemsize, PART[h.device.type])
            for part in parts:
                z = g[part].to(sums)  # g itself, where that is its dtype, and copying it back then does nothing
                loss[at][part] = _losses(z, task.target[at][part], task.smoothing, any(wants))
                if d_b is not None:
                    d_b += torch.mv(z.t(), factor[at][part])
                if any(wants):
                    g[part].copy_(z)
                del z
            if wants[1]:
                d_weight.add(g, (x[at] * rows).to(task.dtype))
            if d_h is not None:
                torch.mul(linear(g, v.t()), rows, out=d_h[at])
            del g  # before the next block's logits are made
        loss.masked_fill_(~task.kept, 0.0)
        # Where the target's probability is too small to be held: from the logits again.
        rare = (~loss.isfinite()).nonzero().flatten()
        for part in _blocks(len(rare), len(v) * sums.itemsize, BLOCK[h.device.type]):
            again = rare[part]
            z = linear(x[again], v, b).to(sums)
            loss[again] = F.cross_entropy(z, task.target[again], reduction="none", label_smoothing=task.smoothing)
        # A logit, or a sum of gradients, beyond the range of half precision: all of it once more where it can be held.
        if task.dtype in HALF and leaves_range((h, weight, bias), (loss, d_h, d_weight.total, d_b)):
            x, v, b = h.double(), weight.double(), None if bias is None else bias.double()
            return _run(x, v, b, task._replace(dtype=torch.float64), wants, factor)
        return _Done(loss, d_h, d_weight, d_b)


def _blocks(rows: int, row_bytes: int, limit: int) -> list[slice]:
    """Equal blocks of rows that stay below a limit in bytes."""
    count = -(-rows * row_bytes // limit)
    size = max(-(-rows // max(count, 1)), 1)
    return [slice(at, min(at + size, rows)) for at in range(0, rows, size)]


def _losses(z: Tensor, target: Tensor, smoothing: float, gradient: bool) -> Tensor:
    """Loss of each row of logits z, ∞ where softmax(z)_o is below TINY; afterwards z holds ∂ℓ/∂z if gradient, else softmax(z)."""
    o = target[:, None]
    # (1 − ε) ℓ(h, o) + (ε / C) Σ_x ℓ(h, x) = ℓ(h, o) + ε (z_o − mean z)
    more = smoothing * (z.gather(-1, o) - z.mean(-1, keepdim=True)) if smoothing else 0.0
    p_o = softmax_(z).gather(-1, o)
    loss = (more - p_o.log()).masked_fill_(p_o < TINY, math.inf)
    if gradient:
        z.scatter_add_(-1, o, torch.full_like(p_o, smoothing - 1.0))
        if smoothing:
            z -= smoothing / z.shape[-1]
    return loss.squeeze(-1)


class _Total(torch.autograd.Function):
    """Σ ℓ, or its mean: gradients are made in the forward pass, and scaled in backward."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        done = _run(h, weight, bias, task, ctx.needs_input_grad[:3])
        count = task.kept.sum() if task.mean else torch.ones((), dtype=torch.int64, device=h.device)
        ctx.save_for_backward(h, weight, bias, count.clamp(min=1))
        ctx.task, ctx.done = task, done
        return done.loss.sum() / count

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor | None, ...]:
        h, weight, bias, count = ctx.saved_tensors
        # The first pass back gives the gradients away, so that none of V's size is made twice; another makes them again.
        done, ctx.done = ctx.done or _run(h, weight, bias, ctx.task, ctx.needs_input_grad[:3]), None
        batch = is_batch(outer[0])
        with torch.no_grad():
            scale = outer[0] / count
            if batch:  # which cannot be written into one gradient's place
                whole = (
                    done.weight.take(torch.ones_like(count, dtype=done.loss.dtype)) if ctx.needs_input_grad[1] else None
                )
                found = [None if d is None else d * scale for d in (done.h, whole, done.bias)]
            else:
                found = [
                    None if done.h is None else done.h.mul_(scale),
                    done.weight.take(scale) if ctx.needs_input_grad[1] else None,
                    None if done.bias is None else done.bias.mul_(scale),
                ]
        return _first_only(found, (h, weight, bias), outer[0], batch)


class _PerRow(torch.autograd.Function):
    """ℓ of each row. Its weight in the whole comes with backward, so the logits are computed there again."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor | None, task: Task) -> Tensor:
        ctx.save_for_backward(h, weight, bias)
        ctx.task = task
        return _run(h, weight, bias, task, (False, False, False)).loss

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor | None, ...]:
        h, weight, bias = ctx.saved_tensors
        task, wants, batch = ctx.task, ctx.needs_input_grad[:3], is_batch(outer[0])
        if batch:
            found = plain_gradients((h, weight, bias), task, wants, outer[0])
        else:
            done = _run(h, weight, bias, task, wants, outer[0].detach())
            found = [done.h, done.weight.take(torch.ones((), device=h.device)) if wants[1] else None, done.bias]
        return _first_only(found, (h, weight, bias), outer[0], batch)


def _first_only(
    found: list[Tensor | None], inputs: tuple[Tensor | None, ...], outer: Tensor, batch: bool
) -> tuple[Tensor | None, ...]:
    """Gradients in their inputs' dtypes; where a graph of them is wanted, one that refuses to be gone through."""
    cast = [None if d is None or t is None else d.to(t.dtype) for d, t in zip(found, inputs, strict=True)]
    if not torch.is_grad_enabled():
        return (*cast, None)
    if batch:  # where no function of our own can go
        raise RuntimeError(_FIRST)
    return (*_Refuse.apply(*cast, *inputs, outer), None)


_FIRST = (
    "linear_cross_entropy has first derivatives only; for second ones take "
    "F.cross_entropy(F.linear(input, linear_weight, linear_bias), target)"
)


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Any) -> tuple[Tensor | None, ...]:
        return tuple(None if t is None else t.clone() for t in tensors[:3])

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        raise RuntimeError(_FIRST)


def _dtypes(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[torch.dtype, torch.dtype]:
    """Of the products, and of the result, as autocast and the inputs have it."""
    device = input.device.type
    if torch.is_autocast_enabled(device) and input.dtype is not torch.float64:  # which autocast leaves alone
        return torch.get_autocast_dtype(device), torch.float32
    for name, tensor in (("linear_weight", weight), ("linear_bias", bias)):
        if tensor is not None and tensor.dtype is not input.dtype:
            raise TypeError(f"{name} has dtype {tensor.dtype} and input {input.dtype}; they must be equal")
    return input.dtype, input.dtype


def _check(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> None:
    arguments.floating(input=input, linear_weight=weight, **({} if bias is None else {"linear_bias": bias}))
    arguments.whole_numbers(target=target)
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
            f"linear_bias has shape {tuple(bias.shape)}; it must be ({weight.shape[0]},), one for each row of linear_weight"
        )
    arguments.choice("reduction", reduction, REDUCTIONS)
    if not isinstance(ignore_index, Integral) or isinstance(ignore_index, bool):
        raise TypeError(
            f"ignore_index is {ignore_index!r}; it must be a whole number, outside 0 … vocab − 1 to ignore no word"
        )
    arguments.number("label_smoothing", label_smoothing, "in [0, 1]")
