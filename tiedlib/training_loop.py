"""The training loop: one generator, used by the chapters and by the command line.

Explained in the chapter `training_loop`. `fit` yields an event after every step and every epoch; progress bars, records,
checkpoints and early stopping are built by whoever consumes the events, so there is one loop and nothing hidden in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Epoch", "Progress", "Step", "evaluate", "fit", "minibatches"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands between two steps; with it `fit` continues as if it had never stopped.

    epoch and step count from 0 and name the next batch. loss_sum is Σ weight·loss over this epoch's batches so far, a
    float64 scalar, or None before the first; weight_sum is Σ weight. carry is the state carried to the next batch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: Tensor | None = None
    weight_sum: float = 0.0
    carry: Any = None


@dataclass(frozen=True)
class Step:
    """After each update: the batch's loss (a detached scalar, left on its device), the gradient's norm before clipping
    (None where nothing is clipped), and the progress from which a later call continues."""

    loss: Tensor
    gradient_norm: Tensor | None
    progress: Progress


@dataclass(frozen=True)
class Epoch:
    """After each pass: its number from 0, the mean training loss (each batch by its weight), and the progress."""

    epoch: int
    loss: float
    progress: Progress


def fit(
    model: nn.Module,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    optimizer: torch.optim.Optimizer,
    *,
    loss: Callable[..., Any],
    epochs: int,
    clip: float | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    stateful: bool = False,
    weight: Callable[[Any], float] | None = None,
    progress: Progress | None = None,
) -> Iterator[Step | Epoch]:
    """Train for `epochs` passes:  θ ← θ + rule(∇_θ loss(model, batch)),  one update a batch. Yields `Step` and `Epoch` events.

    batches     an iterable that can be walked again, or a function of the epoch's number (for a new order each pass)
    loss        loss(model, batch) → scalar. With stateful=True: loss(model, batch, carry) → (scalar, carry), where carry
                is None at the start of every pass and comes back detached: truncated back-propagation through time.
    clip        scales the gradient g to norm at most clip: g ← g · min(1, clip / ‖g‖₂) over all parameters together
    scheduler   stepped once a pass
    weight      what a batch counts for in the pass's mean; default: the length of its first tensor, so that a short
                last batch counts for less
    progress    where to continue (from an event of an earlier run)

    The model is put into training mode at every step, so an evaluation between two events cannot leave it in the wrong
    one. Raises ValueError for epochs < 0, clip ≤ 0 or a pass without batches, FloatingPointError at a loss that is not
    finite (looked at every 50 steps and at the end of a pass, to keep the device from waiting).
    """
    if epochs < 0:
        raise ValueError(f"epochs is {epochs}; it must be at least 0")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; it must be positive, or None for no clipping")
    parameters = list(model.parameters())
    weigh = weight or _length
    at = progress or Progress()
    while at.epoch < epochs:
        source = batches(at.epoch) if callable(batches) else batches
        norm: Tensor | None = None
        for batch in _rest(source, at.step):
            model.train()
            optimizer.zero_grad(set_to_none=True)
            value, carry = loss(model, batch, at.carry) if stateful else (loss(model, batch), None)
            value.backward()
            if clip is not None:
                norm = nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            value, w = value.detach(), weigh(batch)
            total = w * value.double() if at.loss_sum is None else at.loss_sum + w * value.double()
            at = Progress(at.epoch, at.step + 1, total, at.weight_sum + w, _detach(carry))
            if at.step % 50 == 0:
                _check_finite(total, at, norm)
            yield Step(value, norm, at)
        if at.loss_sum is None:
            raise ValueError(
                f"batches gave nothing in epoch {at.epoch}; an iterator can be walked only once, pass a list or a function"
            )
        _check_finite(at.loss_sum, at, norm)
        mean = float(at.loss_sum) / at.weight_sum
        if scheduler is not None:
            scheduler.step()
        done, at = at.epoch, Progress(epoch=at.epoch + 1)
        yield Epoch(done, mean, at)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Callable[..., Any],
    stateful: bool = False,
    weight: Callable[[Any], float] | None = None,
) -> float:
    """The mean loss over `batches`, each by its weight, in evaluation mode; the model's mode is restored afterwards.

        L = Σ_b w_b loss(model, b) / Σ_b w_b          exp(L) is the perplexity where loss is nats a token

    Arguments as for `fit`. Raises ValueError where there are no batches.
    """
    modes = [(module, module.training) for module in model.modules()]
    weigh = weight or _length
    total, weights, carry = torch.zeros((), dtype=torch.float64), 0.0, None
    model.eval()
    try:
        for batch in batches:
            value, carry = loss(model, batch, carry) if stateful else (loss(model, batch), None)
            w = weigh(batch)
            total, weights = total + w * value.double().to(total.device), weights + w
    finally:
        for module, mode in modes:
            module.training = mode
    if weights == 0:
        raise ValueError("batches is empty; there is nothing to evaluate")
    return float(total) / weights


def minibatches(
    *tensors: Tensor, batch_size: int, generator: torch.Generator | None = None, drop_last: bool = False
) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of the same length n into tuples of batch_size rows, in order, or shuffled where a generator is given.

    The last batch holds the remaining n mod batch_size rows unless drop_last. Raises ValueError for batch_size < 1, no
    tensors, or unequal lengths (also when the first batch is not yet asked for).
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    lengths = [len(t) for t in tensors]
    if len(set(lengths)) != 1:
        raise ValueError(f"tensors have lengths {lengths}; give at least one, all equally long")
    n = lengths[0]
    order = None if generator is None else torch.randperm(n, generator=generator)
    stop = n - n % batch_size if drop_last else n
    starts = range(0, stop, batch_size)
    return (
        tuple(t[i : i + batch_size] if order is None else t[order[i : i + batch_size]] for t in tensors) for i in starts
    )


def _rest(source: Iterable[Any], done: int) -> Iterable[Any]:
    """What is left of a pass after `done` batches: by slicing where that is possible, else by drawing and dropping."""
    if not done:
        return source
    if isinstance(source, Sequence):
        return source[done:]
    return islice(source, done, None)


def _length(batch: Any) -> float:
    first = batch[0] if isinstance(batch, (tuple, list)) else batch
    return float(len(first))


def _detach(carry: Any) -> Any:
    if isinstance(carry, Tensor):
        return carry.detach()
    if isinstance(carry, (tuple, list)):
        return type(carry)(_detach(c) for c in carry)
    return carry


def _check_finite(total: Tensor, at: Progress, norm: Tensor | None) -> None:
    if not math.isfinite(float(total)):
        size = "" if norm is None else f" (gradient norm {float(norm):.3g} at the last step)"
        raise FloatingPointError(
            f"the loss is {float(total)} by step {at.step} of epoch {at.epoch}{size}; lower the learning rate or clip the gradient"
        )
