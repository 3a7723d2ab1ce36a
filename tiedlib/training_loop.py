"""The training loop: one iterator of events, used by the chapters and by the command line.

Explained in the chapter `training_loop`. `fit` gives an event after every step and every epoch; progress bars, records,
checkpoints and early stopping are built by whoever walks the events, so there is one loop and nothing hidden in it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from tiedlib import _arguments as arguments
from tiedlib._trees import leaves, mapped

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
    """Train for `epochs` passes:  θ ← θ + rule(∇_θ loss(model, batch)),  one update a batch. Gives `Step` and `Epoch` events.

    Nothing is trained before the events are walked: `for event in fit(...)`, or `list(fit(...))`. A call whose events nobody
    asks for warns.

    batches     an iterable that can be walked again, or a function of the epoch's number (for a new order each pass)
    loss        loss(model, batch) → scalar. With stateful=True: loss(model, batch, carry) → (scalar, carry), where carry
                is None at the start of every pass and comes back detached: truncated back-propagation through time. A carry
                is a tensor, or tensors in tuples, lists, dicts, named tuples or dataclasses, and keeps its types
    clip        scales the gradient g to norm at most clip: g ← g · min(1, clip / ‖g‖₂) over all parameters together. An
                optimizer of `tiedlib.optimizers` takes the factor into its step and leaves .grad as it was
    scheduler   stepped once a pass; ReduceLROnPlateau with the pass's mean training loss
    weight      what a batch counts for in the pass's mean; default: the length of its first tensor (in a dict, a named tuple,
                a dataclass or anything nested too), so that a short last batch counts for less
    progress    where to continue (from an event of an earlier run)

    The model is put into training mode at every step, so an evaluation between two events cannot leave it in the wrong
    one. Raises ValueError for epochs < 0, clip ≤ 0, a loss that is no scalar, a weight that is negative or not finite, a batch
    without a tensor that has a length where no weight is given, or a pass without batches or with weights of 0 alone;
    TypeError for epochs that is no whole number, a scheduler without a method step, or a loss that is no tensor;
    FloatingPointError at a loss that is not finite (looked at every 50 steps and at the end of a pass, to keep the device
    from waiting).
    """
    arguments.whole("epochs", epochs, 0)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; it must be positive, or None for no clipping")
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise TypeError(f"scheduler is {scheduler!r}; it must have a method step")
    return _Events(
        _events(
            model,
            batches,
            optimizer,
            loss,
            epochs,
            clip,
            scheduler,
            stateful,
            weight or _length,
            progress or Progress(),
        )
    )


def _events(
    model: nn.Module,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    optimizer: torch.optim.Optimizer,
    loss: Callable[..., Any],
    epochs: int,
    clip: float | None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None,
    stateful: bool,
    weigh: Callable[[Any], float],
    at: Progress,
) -> Iterator[Step | Epoch]:
    """The loop itself."""
    parameters = list(model.parameters())
    while at.epoch < epochs:
        source = batches(at.epoch) if callable(batches) else batches
        norm: Tensor | None = None
        for batch in _rest(source, at.step):
            model.train()
            optimizer.zero_grad(set_to_none=True)
            value, carry = loss(model, batch, at.carry) if stateful else (loss(model, batch), None)
            _check_scalar(value)
            value.backward()
            if clip is None:
                optimizer.step()
            else:
                norm = _clipped_step(optimizer, parameters, clip)
            value, w = value.detach(), _weight(weigh, batch)
            total = w * value.double() if at.loss_sum is None else at.loss_sum + w * value.double()
            at = Progress(at.epoch, at.step + 1, total, at.weight_sum + w, mapped(Tensor.detach, carry))
            if at.step % 50 == 0:
                _check_finite(total, at, norm)
            yield Step(value, norm, at)
        if at.loss_sum is None:
            raise ValueError(
                f"batches gave nothing in epoch {at.epoch}; an iterator can be walked only once, pass a list or a function"
            )
        _check_finite(at.loss_sum, at, norm)
        if at.weight_sum == 0:
            raise ValueError(f"weight gave 0 for every batch of epoch {at.epoch}; a mean needs a weight above 0")
        mean = float(at.loss_sum) / at.weight_sum
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(mean)
        elif scheduler is not None:
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

    Arguments as for `fit`; a batch of weight 0 counts for nothing. Raises ValueError where there are no batches, and for a
    loss or a weight as `fit` does.
    """
    modes = [(module, module.training) for module in model.modules()]
    weigh = weight or _length
    total, weights, carry = torch.zeros((), dtype=torch.float64), 0.0, None
    model.eval()
    try:
        for batch in batches:
            value, carry = loss(model, batch, carry) if stateful else (loss(model, batch), None)
            _check_scalar(value)
            w = _weight(weigh, batch)
            if w:  # 0 · NaN is NaN, and the mean of no rows is NaN
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
    tensors, one without rows to cut, or unequal lengths; TypeError for a batch_size that is no whole number (all of them also
    when the first batch is not yet asked for).
    """
    arguments.whole("batch_size", batch_size)
    if scalars := [k for k, t in enumerate(tensors) if t.ndim == 0]:
        raise ValueError(f"tensors[{scalars[0]}] is a scalar; each needs a first axis to cut")
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


_HALF = (torch.float16, torch.bfloat16)


def _clipped_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float) -> Tensor:
    """One update by the clipped gradient, as `nn.utils.clip_grad_norm_` clips it; returns the norm before."""
    # in float32 at least: a norm above 65504 is none of float16's numbers
    norm = nn.utils.get_total_norm(
        [g.float() if g.dtype in _HALF else g for p in parameters if (g := p.grad) is not None]
    )
    if getattr(optimizer, "takes_scale", False):  # saves a pass over the whole gradient
        optimizer.step(scale=(clip / (norm + 1e-6)).clamp(max=1.0))  # type: ignore[call-overload]
    else:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        optimizer.step()
    return norm


def _rest(source: Iterable[Any], done: int) -> Iterable[Any]:
    """What is left of a pass after `done` batches: by slicing where that is possible, else by drawing and dropping."""
    if not done:
        return source
    if isinstance(source, Sequence):
        return source[done:]
    return islice(source, done, None)


def _length(batch: Any) -> float:
    for leaf in leaves(batch):
        shape = getattr(leaf, "shape", None)  # a tensor, or an array of numpy's
        if shape is not None and len(shape):
            return float(shape[0])
    raise ValueError(
        f"weight is None and the batch, a {type(batch).__name__}, holds no tensor with a length; "
        "pass weight=, a function that gives what a batch counts for"
    )


class _Events(Iterator[Step | Epoch]):
    """The events of a run. One that is dropped before the first was asked for has trained nothing, and says so."""

    def __init__(self, events: Iterator[Step | Epoch]) -> None:
        self._events, self._asked = events, False

    def __next__(self) -> Step | Epoch:
        self._asked = True
        return next(self._events)

    def close(self) -> None:
        """End the run here."""
        self._asked = True
        close = getattr(self._events, "close", None)
        if close is not None:
            close()

    def __del__(self) -> None:
        if not getattr(self, "_asked", True):
            warnings.warn(
                "fit(...) was called and its events were never walked, so nothing was trained; "
                "write `for event in fit(...)`, or `list(fit(...))`",
                RuntimeWarning,
                stacklevel=2,
            )


def _check_scalar(value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"loss gave a {type(value).__name__}; it must give a tensor")
    if value.numel() != 1:
        raise ValueError(f"loss gave a tensor of shape {tuple(value.shape)}; it must give a scalar")


def _weight(weigh: Callable[[Any], float], batch: Any) -> float:
    w = float(weigh(batch))
    if not 0 <= w < math.inf:
        raise ValueError(f"weight gave {w} for a batch; it must be finite and at least 0")
    return w


def _check_finite(total: Tensor, at: Progress, norm: Tensor | None) -> None:
    if not math.isfinite(float(total)):
        size = "" if norm is None else f" (gradient norm {float(norm):.3g} at the last step)"
        raise FloatingPointError(
            f"the loss is {float(total)} by step {at.step} of epoch {at.epoch}{size}; lower the learning rate or clip the gradient"
        )
