"""`grid` trains many small models as one batched program: every setting of some hyper-parameters times every seed.

Bands over five seeds then cost little more than one run. `torch.func.vmap` runs one step of all models at once, the
update rules are the pure functions of `tiedlib.optimizers`, and model k gets the same weights, the same batches and the
same arithmetic as in a loop over models; tests/lab/test_grid.py holds the two together. For feed-forward models, or cells
written in plain operations: `vmap` has no rule for `nn.LSTM`.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tiedlib.training_loop import minibatches

__all__ = ["Grid", "grid"]


@dataclass(frozen=True)
class Grid:
    """What `grid` found. The first two axes of every array are settings and seeds.

    settings   one dict a setting, the last name of `hyper` running fastest
    loss       (settings, seeds, steps): the loss of each step's batch, before its update
    at         (points,): how many updates had been made when the measures were taken
    measured   name → (settings, seeds, points, …)
    params     name → (settings, seeds, …), the weights at the end
    """

    settings: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    loss: np.ndarray
    at: np.ndarray
    measured: dict[str, np.ndarray]
    params: dict[str, Tensor]

    def where(self, **values: Any) -> Grid:
        """Only the settings with these values. Raises ValueError where there are none."""
        keep = [k for k, s in enumerate(self.settings) if all(n in s and s[n] == v for n, v in values.items())]
        if not keep:
            raise ValueError(f"no setting has {values}; the settings are {list(self.settings)}")
        return replace(
            self,
            settings=tuple(self.settings[k] for k in keep),
            loss=self.loss[keep],
            measured={name: found[keep] for name, found in self.measured.items()},
            params={name: p[keep] for name, p in self.params.items()},
        )


def grid(
    make_model: Callable[..., nn.Module],
    data: Sequence[Tensor],
    rule: Callable[..., tuple[Tensor, dict[str, Any]]],
    *,
    loss: Callable[..., Tensor],
    hyper: Mapping[str, Iterable[Any]],
    seeds: Iterable[int] = range(5),
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    measures: Mapping[str, Callable[[nn.Module], Tensor]] | None = None,
    every: int | None = None,
) -> Grid:
    """Train make_model() on `data` for every combination of `hyper` and every seed, all models at once.

    Equal, to rounding, to this loop over settings and seeds:

        torch.manual_seed(seed); model = make_model(); generator = torch.Generator().manual_seed(seed)
        each pass:  for batch in minibatches(*data, batch_size=batch_size, generator=generator):
                        loss(model, batch).backward();  θ ← θ + rule(∇θ, state, θ, **setting)

    data        tensors of equal length; a batch is a tuple of their rows. batch_size=None: all rows in every step, in order
    rule        a rule of `tiedlib.optimizers`, or one of your own, written with operations on whole tensors
    loss        loss(model, batch) → scalar, as for `fit`; the model it gets is a module with the weights of one run
    hyper       name → values. A name goes to whichever of make_model, rule and loss has an argument of that name. Values
                for rule and loss are numbers or tuples of numbers (they arrive as tensors of no dimension); those for
                make_model may be anything that leaves names and shapes of the weights the same
    steps, epochs   how long: one of the two
    measures    name → function of the model, in evaluation mode: taken before the first step, after every `every`
                steps (default: a pass) and after the last

    A run that diverges goes on with inf or NaN and leaves the others alone. Models that draw random numbers (dropout) draw
    other ones than in the loop. Raises ValueError or TypeError for a name that no function or more than one takes, an
    empty axis, values that are not numbers, models that differ in shape, and layers that change buffers (batch norm).
    """
    data, seeds, axes = tuple(data), tuple(seeds), {name: tuple(values) for name, values in hyper.items()}
    owners = _owners(axes, make_model=make_model, rule=rule, loss=loss)
    per_pass = _check(data, seeds, axes, steps, epochs, batch_size, every)
    total = steps if steps is not None else (epochs or 0) * per_pass
    settings = tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    runs = [(setting, seed) for setting in settings for seed in seeds]
    tuned = {who: _stacked(settings, len(seeds), owners, who) for who in ("rule", "loss")}
    batches = _batches(data, seeds, len(settings), batch_size)
    losses: list[Tensor] = []
    at: list[int] = []
    found: dict[str, list[Tensor]] = {name: [] for name in measures or {}}
    with torch.random.fork_rng(devices=[]):
        models = [_made(make_model, seed, _of("make_model", setting, owners)) for setting, seed in runs]
        program = _Program(models, rule, loss, shared=batch_size is None)
        for k in range(total + 1):
            if measures and (k % (every or per_pass) == 0 or k == total):
                at.append(k)
                for name, measure in measures.items():
                    found[name].append(program.measure(measure))
            if k < total:
                losses.append(program.step(next(batches), tuned["rule"], tuned["loss"]))
    shape = (len(settings), len(seeds))
    curves = torch.stack(losses, 1) if losses else torch.empty(len(runs), 0)
    measured = {name: torch.stack(values, 1).double().numpy() for name, values in found.items()}
    return Grid(
        settings,
        seeds,
        curves.double().numpy().reshape(*shape, -1) if total else np.empty((*shape, 0)),
        np.array(at),
        {name: values.reshape(*shape, *values.shape[1:]) for name, values in measured.items()},
        {name: p.reshape(*shape, *p.shape[1:]) for name, p in program.weights().items()},
    )


class _Lossy(nn.Module):
    """loss(model, batch) as a module, so that `functional_call` can put one run's weights into the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, fn: Callable[..., Tensor], *args: Any, **hyper: Any) -> Tensor:
        return fn(self.model, *args, **hyper)


class _Program:
    """All models, stacked, and the one step that moves all of them."""

    def __init__(
        self, models: list[nn.Module], rule: Callable[..., Any], loss: Callable[..., Tensor], shared: bool
    ) -> None:
        _check_alike(models)
        self.rule, self.loss, self.shared, self.base = rule, loss, shared, _Lossy(copy.deepcopy(models[0]))
        params, buffers = stack_module_state([_Lossy(m) for m in models])
        moving = {name for name, p in self.base.named_parameters() if p.requires_grad}
        self.params = {name: p.detach() for name, p in params.items() if name in moving}
        self.fixed = {name: p.detach() for name, p in {**params, **buffers}.items() if name not in moving}
        self.states: dict[str, dict[str, Tensor]] = {name: {} for name in self.params}
        self.counts: dict[str, dict[str, Any]] = {name: {} for name in self.params}  # what of a state is no tensor

    def step(self, batch: tuple[Tensor, ...], for_rule: dict[str, Any], for_loss: dict[str, Any]) -> Tensor:
        """One update of every model; the losses before it."""
        self.base.train()
        moving = {name: p.requires_grad_() for name, p in self.params.items()}
        dims = (0, 0, None if self.shared else 0)
        with torch.enable_grad():
            values = vmap(self._value, in_dims=dims, randomness="different")({**moving, **self.fixed}, for_loss, batch)
            # No model's loss depends on another's weights: the gradient of the sum holds every model's own gradient.
            gradients = torch.autograd.grad(values.sum(), list(moving.values()), materialize_grads=True)
        grads = dict(zip(moving, gradients, strict=True))
        with torch.no_grad():
            moved = vmap(self._moved, randomness="different")(moving, grads, self.states, for_rule)
        self.params, self.states = moved
        return values.detach()

    def _value(self, weights: dict[str, Tensor], for_loss: dict[str, Any], batch: tuple[Tensor, ...]) -> Tensor:
        return functional_call(self.base, weights, (self.loss, batch), for_loss)

    def _moved(
        self,
        params: dict[str, Tensor],
        grads: dict[str, Tensor],
        states: dict[str, dict[str, Tensor]],
        hyper: dict[str, Any],
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        moved, after = {}, {}
        for name, p in params.items():
            step, state = self.rule(grads[name], {**states[name], **self.counts[name]}, p, **hyper)
            moved[name] = p + step
            after[name] = {key: kept for key, kept in state.items() if isinstance(kept, Tensor)}
            self.counts[name] = {key: kept for key, kept in state.items() if not isinstance(kept, Tensor)}
        return moved, after

    @torch.no_grad()
    def measure(self, fn: Callable[[nn.Module], Tensor]) -> Tensor:
        """fn(model) of every model, in evaluation mode."""
        self.base.eval()
        one = vmap(lambda weights: functional_call(self.base, weights, (fn,)), randomness="different")
        return one({**self.params, **self.fixed})

    def weights(self) -> dict[str, Tensor]:
        return {name.removeprefix("model."): p for name, p in {**self.params, **self.fixed}.items()}


def _made(make_model: Callable[..., nn.Module], seed: int, setting: dict[str, Any]) -> nn.Module:
    torch.default_generator.manual_seed(seed)  # as torch.manual_seed, without its notes to devices that nobody uses
    return make_model(**setting)


def _batches(
    data: tuple[Tensor, ...], seeds: tuple[int, ...], settings: int, batch_size: int | None
) -> Iterator[tuple[Tensor, ...]]:
    """What each step reads: the rows of every run, (runs, batch, …), or the whole data where batch_size is None."""
    if batch_size is None:
        yield from itertools.repeat(data)
        return
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    rows = torch.arange(len(data[0]))
    while True:  # a pass: each seed's order of the rows, then cut
        orders = [next(minibatches(rows, batch_size=len(rows), generator=g))[0] for g in generators]
        for chosen in torch.stack(orders).repeat(settings, 1).split(batch_size, dim=1):
            yield tuple(t[chosen] for t in data)


def _owners(hyper: dict[str, tuple[Any, ...]], **functions: Callable[..., Any]) -> dict[str, str]:
    """Which function each name of `hyper` is an argument of."""
    taken = {who: set(inspect.signature(fn).parameters) for who, fn in functions.items()}
    found = {}
    for name in hyper:
        who = [function for function, names in taken.items() if name in names]
        if len(who) != 1:
            problem = f"{' and '.join(who)} take it" if who else f"none of {', '.join(taken)} has such an argument"
            raise ValueError(f"hyper names {name!r}: exactly one function must take it, and {problem}")
        found[name] = who[0]
    return found


def _of(who: str, setting: dict[str, Any], owners: dict[str, str]) -> dict[str, Any]:
    return {name: value for name, value in setting.items() if owners[name] == who}


def _stacked(settings: tuple[dict[str, Any], ...], seeds: int, owners: dict[str, str], who: str) -> dict[str, Any]:
    """The values of all runs as tensors of one axis. float64: 1 − β₂ must not lose digits that a Python number keeps."""

    def column(values: Sequence[Any], name: str) -> Any:
        if all(isinstance(v, (tuple, list)) and len(v) == len(values[0]) for v in values):
            return tuple(column(parts, name) for parts in zip(*values, strict=True))
        if not all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values):
            raise TypeError(
                f"hyper[{name!r}] is {list(dict.fromkeys(values))}; {who} takes numbers or tuples of numbers"
            )
        return torch.tensor(values, dtype=torch.float64).repeat_interleave(seeds)

    names = [name for name, owner in owners.items() if owner == who]
    return {name: column([s[name] for s in settings], name) for name in names}


def _check(
    data: tuple[Tensor, ...],
    seeds: tuple[int, ...],
    hyper: dict[str, tuple[Any, ...]],
    steps: int | None,
    epochs: int | None,
    batch_size: int | None,
    every: int | None,
) -> int:
    """The steps of a pass; raises for what `grid` cannot run."""
    lengths = [len(t) for t in data]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(f"data has lengths {lengths}; give tensors that are all equally long, and not empty")
    if not seeds:
        raise ValueError("seeds is empty; give at least one")
    if empty := [name for name, values in hyper.items() if not values]:
        raise ValueError(f"hyper[{empty[0]!r}] is empty; give at least one value")
    if (steps is None) == (epochs is None):
        raise ValueError(f"steps is {steps} and epochs is {epochs}; give one of the two")
    for name, value, least in (
        ("steps", steps, 0),
        ("epochs", epochs, 0),
        ("batch_size", batch_size, 1),
        ("every", every, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    return -(-lengths[0] // (batch_size or lengths[0]))


def _check_alike(models: list[nn.Module]) -> None:
    shapes = [{name: tuple(t.shape) for name, t in model.state_dict().items()} for model in models]
    for other in shapes:
        if other != shapes[0]:
            raise ValueError(
                f"make_model gave models with weights {shapes[0]} and {other}; all must have the same shapes"
            )
    for module in models[0].modules():
        if getattr(module, "track_running_stats", False):
            raise ValueError(f"{type(module).__name__} changes its buffers; use track_running_stats=False")
