"""`agree`: ours against an independent reference, in front of the reader."""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tiedlib.lab.notebook import arrivals
from tiedlib.lab.outputs import AGREE

__all__ = ["Agreement", "Difference", "DisagreementError", "agree"]

# A few hundred units in the last place: room for another order of summation, none for another formula.
RTOL = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


class DisagreementError(AssertionError):
    """Ours and the reference differ by more than rounding."""


@dataclass(frozen=True)
class Difference:
    """One row: the largest absolute difference of `what`, and the difference that is allowed (rtol times the largest value)."""

    what: str
    difference: float
    tolerance: float
    scale: float  # the largest absolute value of the reference

    @property
    def ok(self) -> bool:
        # `<=` is False for NaN: results that are not finite never agree by accident
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Agreement:
    """What `agree` found; shown as a table."""

    title: str
    rows: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        arrivals.shown(self)
        data = {"title": self.title, "rows": [asdict(row) for row in self.rows], "ok": self.ok}
        return {AGREE: data, "text/html": self._html(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        lines = [f"{self.title}: {'equal' if self.ok else 'NOT equal'}"]
        return "\n".join(lines + [f"  {r.what}: {r.difference:.2e} (allowed {r.tolerance:.2e})" for r in self.rows])

    def _html(self) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(r.what)}</td><td>{r.difference:.2e}</td><td>{r.tolerance:.2e}</td></tr>"
            for r in self.rows
        )
        head = "<tr><th>compared</th><th>largest difference</th><th>allowed</th></tr>"
        return f"<b>{html.escape(self.title)}: {'equal' if self.ok else 'NOT equal'}</b><table>{head}{cells}</table>"


def agree(
    ours: Callable[..., Any],
    reference: Callable[..., Any],
    *inputs: Any,
    steps: int = 3,
    lr: float = 0.1,
    rtol: float | None = None,
    seed: int = 0,
    title: str = "ours against the reference",
) -> Agreement:
    """Compare two functions or two modules: forward, gradient and `steps` steps of plain gradient descent.

        difference = max |ours − reference|   ≤   rtol · max |reference|

    inputs: handed to both as they are, tensors of floating type as separate copies; these and, for modules, their
    parameters are what gradients are taken of and what the steps move. The scalar that is differentiated is the sum of all
    outputs, each entry weighted by the same random number. Modules are copied, not changed, and must start with equal
    parameters of equal names. rtol: default by type (float64 1e-12, float32 1e-5, bfloat16 4e-2, float16 5e-3).

    Returns the Agreement, which shows itself. Raises DisagreementError (an AssertionError) with the same table where
    something differs, ValueError where there is nothing to compare.
    """
    if isinstance(ours, nn.Module) != isinstance(reference, nn.Module):
        raise ValueError(
            "ours and reference must both be modules or both be functions; wrap the module in a function of its tensors"
        )
    sides = [_Side(ours, inputs), _Side(reference, inputs)]
    if sides[0].leaves.keys() != sides[1].leaves.keys():
        odd = sorted(sides[0].leaves.keys() ^ sides[1].leaves.keys())
        raise ValueError(f"ours and reference do not have the same parameters; only one of them has {odd}")
    for name in sides[0].leaves:
        if not torch.equal(sides[0].leaves[name], sides[1].leaves[name]):
            raise ValueError(
                f"the modules start with unequal parameters {name!r}; load one's state_dict into the other"
            )
    rows: list[Difference] = []
    outputs = [side.outputs() for side in sides]
    if not outputs[1]:
        raise ValueError("reference returned no floating-point tensor; there is nothing to compare")
    rows.append(_difference("forward", outputs[0], outputs[1], rtol))
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs[1]]
    if sides[0].leaves:
        gradients = [side.gradients(weights) for side in sides]
        rows.append(_difference("gradient", gradients[0], gradients[1], rtol))
        for _ in range(steps):
            for side in sides:
                side.descend(weights, lr)
        if steps:
            after = [list(side.leaves.values()) for side in sides]
            rows.append(_difference(f"after {steps} steps", after[0], after[1], rtol))
    result = Agreement(title, tuple(rows))
    if not result.ok:
        raise DisagreementError(repr(result))
    arrivals.made(result)
    return result


class _Side:
    """One of the two: its own copies of inputs and parameters, by name."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any]) -> None:
        self.function = copy.deepcopy(function) if isinstance(function, nn.Module) else function
        self.inputs = [_own(x) for x in inputs]
        self.leaves: dict[str, Tensor] = {f"input {i}": x for i, x in enumerate(self.inputs) if _is_leaf(x)}
        if isinstance(self.function, nn.Module):
            self.leaves |= {name: p for name, p in self.function.named_parameters() if p.requires_grad}

    def outputs(self) -> list[Tensor]:
        return _floats(self.function(*self.inputs))

    def gradients(self, weights: list[Tensor]) -> list[Tensor]:
        outputs = self.outputs()
        if len(outputs) != len(weights):
            raise ValueError(
                f"ours returned {len(outputs)} tensors and the reference {len(weights)}; they must return the same"
            )
        total = torch.stack([(o * w).sum() for o, w in zip(outputs, weights, strict=True)]).sum()
        leaves = list(self.leaves.values())
        found = torch.autograd.grad(total, leaves, allow_unused=True)
        return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]

    @torch.no_grad()
    def descend(self, weights: list[Tensor], lr: float) -> None:
        with torch.enable_grad():
            gradients = self.gradients(weights)
        for leaf, gradient in zip(self.leaves.values(), gradients, strict=True):
            leaf -= lr * gradient


def _own(x: Any) -> Any:
    if isinstance(x, Tensor):
        copied = x.detach().clone()
        return copied.requires_grad_() if copied.is_floating_point() else copied
    return copy.deepcopy(x)


def _is_leaf(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _floats(value: Any) -> list[Tensor]:
    """The floating-point tensors in a value, in order, tuples and lists opened."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _floats(item)]
    return []


def _difference(what: str, ours: list[Tensor], reference: list[Tensor], rtol: float | None) -> Difference:
    if [a.shape for a in ours] != [b.shape for b in reference]:
        raise DisagreementError(
            f"{what}: ours has shapes {[tuple(a.shape) for a in ours]}, the reference {[tuple(b.shape) for b in reference]}"
        )
    largest = scale = 0.0
    for a, b in zip(ours, reference, strict=True):
        if b.numel():
            gap = float((a.detach().double() - b.detach().double()).abs().max())
            largest = gap if math.isnan(gap) else max(largest, gap)
            scale = max(scale, float(b.detach().abs().max()))
        if math.isnan(largest):
            break
    coarsest = max((RTOL.get(b.dtype, 1e-5) for b in reference), default=1e-12)
    return Difference(what, largest, (coarsest if rtol is None else rtol) * scale, scale)
