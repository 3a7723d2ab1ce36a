"""The plain pair of calls, logits and then their cross-entropy, and where it takes the place of `linear_cross_entropy`'s blocks.

Explained, with that function, in the chapter `fast_output`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.autograd import forward_ad

from tiedlib._undocumented import undocumented

__all__: list[str] = []

HALF = (torch.float16, torch.bfloat16)
DEVICES = ("cpu", "cuda")  # whose blocks are written


class Task(NamedTuple):
    """What stays the same from block to block."""

    target: Tensor  # 0 where it is ignored
    kept: Tensor  # which rows count
    dtype: torch.dtype  # of the products
    smoothing: float
    mean: bool


def plain(
    h: Float[Tensor, "rows dim"],
    weight: Float[Tensor, "vocab dim"],
    bias: Float[Tensor, " vocab"] | None,
    target: Integer[Tensor, " rows"],
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Float[Tensor, "*loss"]:
    """z = V h + b, and the cross-entropy of softmax(z), as torch has them."""
    z = F.linear(h, weight, bias)
    return F.cross_entropy(z, target, reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)


def plain_gradients(
    inputs: tuple[Tensor | None, ...], task: Task, wants: tuple[bool, ...], outer: Tensor
) -> list[Tensor | None]:
    """Of Σ_r outer_r ℓ_r at h, V and b, where they are wanted; with a batch of outer gradients, a batch of each."""
    with torch.enable_grad(), torch.autocast(task.target.device.type, enabled=False):
        leaves = [None if t is None else t.detach().requires_grad_(want) for t, want in zip(inputs, wants, strict=True)]
        h, weight, bias = (None if t is None else t.to(task.dtype) for t in leaves)
        z = F.linear(h, weight, bias)  # type: ignore[arg-type]
        z = z.float() if task.dtype in HALF else z
        loss = F.cross_entropy(z, task.target, reduction="none", label_smoothing=task.smoothing)
    wanted = [t for t, want in zip(leaves, wants, strict=True) if t is not None and want]
    with torch.no_grad():
        found = iter(torch.autograd.grad(loss, wanted, outer.to(loss.dtype) * task.kept))
    return [next(found) if want else None for want in wants]


def only_plain(*tensors: Tensor | None) -> bool:
    """Where an autograd function of our own cannot go."""
    given = [t for t in tensors if t is not None]
    if torch.compiler.is_compiling() or any(t.device.type not in DEVICES for t in given):
        return True
    if any(type(t) not in (Tensor, nn.Parameter) for t in given):
        return True
    asks = _asks()
    return asks is None or asks() or any(forward_ad.unpack_dual(t).tangent is not None for t in given)


def is_batch(outer: Tensor) -> bool:
    """Whether an outer gradient is a batch of them (`is_grads_batched`, vmap), of which a single one cannot be seen in Python:
    it cannot be added to one number."""
    try:
        with torch.no_grad():
            torch.zeros((), dtype=outer.dtype, device=outer.device).add_(outer.sum())
    except RuntimeError:
        return True
    return False


def leaves_range(given: tuple[Tensor | None, ...], found: tuple[Tensor | None, ...]) -> bool:
    """Whether something found is not finite although all that was given is. A sum says it of all its parts at once."""
    sums = torch.stack([t.sum().float() for t in found if t is not None])
    return not sums.isfinite().all() and all(bool(t.isfinite().all()) for t in given if t is not None)


@cache
def _asks() -> Callable[[], bool] | None:
    """Whether a transform of torch.func is at work: what torch.autograd.Function itself asks. The question is not part of
    torch's documented interface: it is looked for, and compared once with what is known inside vmap. None where it is missing
    or wrong; the plain pair of calls then goes everywhere."""
    ask = undocumented("_C._are_functorch_transforms_active")
    said = []

    def inside(x: Tensor) -> Tensor:
        said.append(ask())
        return x

    try:
        before = ask()
        torch.func.vmap(inside)(torch.zeros(1, device="cpu"))
        return ask if said == [True] and ask() is before else None
    except (TypeError, RuntimeError):
        return None


def check_target(target: Tensor, ignore_index: int, vocab: int) -> None:
    """On a GPU a wrong index would be a device-side assertion that ends the process."""
    wrong = ((target < 0) | (target >= vocab)) & (target != ignore_index)
    if bool(wrong.any()):
        raise ValueError(f"target holds {int(target[wrong][0])}; it must lie in 0 … {vocab - 1}, or be ignore_index")
