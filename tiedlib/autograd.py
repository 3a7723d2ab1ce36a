"""Reverse-mode differentiation in one page: the part of PyTorch that turns a loss into gradients, small enough to read.

Explained in the chapter `training_loop`. A `Node` holds a value, the nodes it was computed from, and how a gradient is handed
on to them. Sources: Linnainmaa 1976, BIT 16; Baydin, Pearlmutter, Radul & Siskind 2018, JMLR 18(153), sections 3.2 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiedlib import _arguments as arguments

__all__ = ["Node", "backpropagate", "cross_entropy"]


class Node:
    """One value of a computation, v = f(u₁, …, uₖ), with what the chain rule needs to go back through it.

    value          a tensor of floating type; its own history with torch's autograd is cut off
    parents        u₁, …, uₖ; none for what is given rather than computed, a leaf
    pull           v̄ ↦ (ū₁, …, ūₖ) with ūᵢ = v̄ · ∂v/∂uᵢ, where x̄ = ∂L/∂x for the loss L: of the shapes of the parents
    requires_grad  whether a leaf wants its gradient; a computed node wants it where a parent does
    grad           of a leaf: the sum of all gradients handed to it so far, None before the first (as in torch)

    Operators: + − * / @ ** and unary minus, with tensors and numbers too; shapes broadcast as in torch. Raises TypeError for a
    value that is no tensor of floating type, ValueError for shapes that do not fit.
    """

    def __init__(
        self,
        value: Float[Tensor, "*shape"],
        parents: Sequence[Node] = (),
        pull: Callable[[Tensor], tuple[Tensor, ...]] | None = None,
        *,
        requires_grad: bool = True,
    ) -> None:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"value is {kind}; it must be a tensor of floating type: only such values have gradients")
        if bool(parents) != (pull is not None):
            raise ValueError(f"parents has {len(parents)} nodes, pull is {pull}; give both, or none of them for a leaf")
        self.value, self.parents, self.pull = value.detach(), tuple(parents), pull
        self.requires_grad: bool = any(p.requires_grad for p in parents) if parents else requires_grad
        self.grad: Tensor | None = None

    def __add__(self, other: Any) -> Node:
        a, b = _pair("+", self, other)
        return Node(a.value + b.value, (a, b), lambda g: (_fold(g, a), _fold(g, b)))

    def __mul__(self, other: Any) -> Node:
        a, b = _pair("*", self, other)
        return Node(a.value * b.value, (a, b), lambda g: (_fold(g * b.value, a), _fold(g * a.value, b)))

    def __truediv__(self, other: Any) -> Node:
        a, b = _pair("/", self, other)
        v = a.value / b.value
        return Node(v, (a, b), lambda g: (_fold(g / b.value, a), _fold(-g * v / b.value, b)))

    def __pow__(self, exponent: int | float) -> Node:
        """uᶜ for a number c = exponent: ū = v̄ · c uᶜ⁻¹."""
        arguments.number("exponent", exponent)
        u = self.value
        return Node(
            u**exponent, (self,), lambda g: (g * exponent * u ** (exponent - 1) if exponent else torch.zeros_like(g),)
        )

    def __matmul__(self, other: Any) -> Node:
        """A B for matrices: Ā = C̄ Bᵀ and B̄ = Aᵀ C̄, for C = A B."""
        a, b = self, _node(other, self)
        if a.value.ndim != 2 or b.value.ndim != 2 or a.value.shape[1] != b.value.shape[0]:
            raise ValueError(
                f"the shapes {tuple(a.value.shape)} @ {tuple(b.value.shape)} do not fit; they must be (n, k) @ (k, m)"
            )
        return Node(a.value @ b.value, (a, b), lambda g: (g @ b.value.T, a.value.T @ g))

    def __neg__(self) -> Node:
        return self * -1.0

    def __sub__(self, other: Any) -> Node:
        return self + -_node(other, self)

    def __rsub__(self, other: Any) -> Node:
        return _node(other, self) + -self

    def __rtruediv__(self, other: Any) -> Node:
        return _node(other, self) / self

    __radd__, __rmul__ = __add__, __mul__

    def exp(self) -> Node:
        """eᵘ."""
        v = self.value.exp()
        return Node(v, (self,), lambda g: (g * v,))

    def log(self) -> Node:
        """log u, the natural logarithm; as in torch −inf at 0 and NaN below."""
        return Node(self.value.log(), (self,), lambda g: (g / self.value,))

    def tanh(self) -> Node:
        """tanh u."""
        v = self.value.tanh()
        return Node(v, (self,), lambda g: (g * (1 - v * v),))

    def relu(self) -> Node:
        """max(u, 0), with the gradient 0 at u = 0 (as in torch)."""
        return Node(self.value.relu(), (self,), lambda g: (g * (self.value > 0),))

    def sum(self) -> Node:
        """Σ over all entries: a scalar."""
        return Node(self.value.sum(), (self,), lambda g: (g.expand(self.value.shape),))

    def mean(self) -> Node:
        """The mean of all entries: a scalar. Raises ValueError where there are none."""
        if not self.value.numel():
            raise ValueError(f"value has shape {tuple(self.value.shape)}; a mean needs at least one entry")
        return self.sum() / float(self.value.numel())

    def logsumexp(self) -> Node:
        """log Σₖ exp uₖ over the last axis, finite for scores of any size; its gradient is the softmax."""
        if not self.value.ndim:
            raise ValueError("value is a scalar; logsumexp needs an axis to sum over")
        v = self.value.logsumexp(-1)
        return Node(v, (self,), lambda g: (g[..., None] * self.value.softmax(-1),))

    def pick(self, index: Int[Tensor, "*batch"]) -> Node:
        """u[…, index]: of every row the entry that index names. Raises TypeError or ValueError for an index that does not
        fit."""
        u = self.value
        _check_index(index, u)
        where = index[..., None].long()
        v = u.gather(-1, where).squeeze(-1)
        return Node(v, (self,), lambda g: (torch.zeros_like(u).scatter(-1, where, g[..., None]),))

    def backward(self) -> None:
        """Add ∂self/∂leaf to the `grad` of every leaf. Raises ValueError where self is no scalar."""
        for node, gradient in backpropagate(self):
            if not node.parents:
                node.grad = gradient if node.grad is None else node.grad + gradient


def backpropagate(output: Node) -> list[tuple[Node, Float[Tensor, "*shape"]]]:
    """Every node below `output` with its gradient x̄ = ∂output/∂x, in the order of the reverse sweep, output first.

        x̄ = Σ over the nodes v computed from x of  v̄ · ∂v/∂x,        output̄ = 1

    A node is visited after all nodes computed from it, so that its sum is complete: then its `pull` hands it on. One visit a
    node, however many paths lead through it. Raises ValueError unless output has exactly one entry.
    """
    if output.value.numel() != 1:
        raise ValueError(f"output has shape {tuple(output.value.shape)}; only a scalar has a gradient, reduce it first")
    gradients = {id(output): torch.ones_like(output.value)}
    swept = []
    for node in reversed(_sorted(output)):
        gradient = gradients.pop(id(node))
        swept.append((node, gradient))
        for parent, share in zip(node.parents, node.pull(gradient) if node.pull else (), strict=True):
            if parent.requires_grad:
                so_far = gradients.get(id(parent))
                gradients[id(parent)] = share if so_far is None else so_far + share
    return swept


def cross_entropy(logits: Node, target: Int[Tensor, " batch"]) -> Node:
    """The mean over the batch of  log Σₖ exp z_k − z_y,  in nats: for scores z of shape (batch, classes), class ids y.

    Raises as `Node.pick` and `Node.mean`.
    """
    return (logits.logsumexp() - logits.pick(target)).mean()


def _sorted(output: Node) -> list[Node]:
    """The nodes below output that want a gradient, parents before children. Without recursion: graphs can be deep."""
    order, seen, stack = [], set(), [(output, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in node.parents if p.requires_grad)
    return order


def _node(x: Any, like: Node) -> Node:
    if isinstance(x, Node):
        return x
    return Node(torch.as_tensor(x, dtype=like.value.dtype, device=like.value.device), requires_grad=False)


def _pair(name: str, a: Node, other: Any) -> tuple[Node, Node]:
    b = _node(other, a)
    try:
        torch.broadcast_shapes(a.value.shape, b.value.shape)
    except RuntimeError as error:
        shapes = f"{tuple(a.value.shape)} {name} {tuple(b.value.shape)}"
        raise ValueError(f"the shapes {shapes} do not fit; from the right, they must be equal or 1") from error
    return a, b


def _fold(g: Tensor, node: Node) -> Tensor:
    """The gradient of a value that was broadcast: summed over the axes along which it was repeated."""
    return g.sum_to_size(node.value.shape)


def _check_index(index: Tensor, u: Tensor) -> None:
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"index is {index.dtype}; it must be of an integer type")
    if not u.ndim or index.shape != u.shape[:-1]:
        raise ValueError(f"index has shape {tuple(index.shape)}; it must be {tuple(u.shape[:-1])}, one a row")
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= u.shape[-1]):
        found = f"{int(index.min())} … {int(index.max())}"
        raise ValueError(f"index runs over {found}; it must lie in 0 … {u.shape[-1] - 1}")
