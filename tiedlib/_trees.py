"""Tensors inside of anything: tuples, lists, dicts, named tuples, dataclasses, nested as one likes. No chapter explains it.

What torch's own trees know is known here, types that others registered there included; its module for that is private, so that
it is looked for, and without it all but the registered types are still known.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor

__all__ = ["leaves", "mapped"]

Function = Callable[[Tensor], Tensor]


def leaves(tree: Any) -> Iterator[Any]:
    """What a tree holds and is no tree itself, from left to right."""
    if (parts := _parts(tree)) is None:
        yield tree
    else:
        for part in parts:
            yield from leaves(part)


def mapped(function: Function, tree: Any) -> Any:
    """The same tree with function(t) in the place of each tensor t; all else is the same object."""
    if isinstance(tree, Tensor):
        return function(tree)
    if (parts := _parts(tree)) is None or not any(isinstance(leaf, Tensor) for leaf in leaves(tree)):
        return tree
    return _rebuilt(tree, [mapped(function, part) for part in parts])


def _parts(tree: Any) -> list[Any] | None:
    """The parts of a tree, None for a leaf."""
    if isinstance(tree, (Tensor, str, bytes)):
        return None
    if isinstance(tree, Mapping):
        return list(tree.values())
    if isinstance(tree, (tuple, list, deque)):
        return list(tree)
    if (registered := _registered(tree)) is not None:
        return list(registered[0](tree)[0])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [getattr(tree, name) for name in _fields(tree)]
    return None


def _rebuilt(tree: Any, parts: list[Any]) -> Any:
    twin: Any
    if isinstance(tree, MutableMapping):
        twin = copy.copy(tree)  # keeps an order, a default factory, and what a subclass has beside
        for key, part in zip(tree, parts, strict=True):
            twin[key] = part
        return twin
    if isinstance(tree, Mapping):
        return type(tree)(dict(zip(tree, parts, strict=True)))  # type: ignore[call-arg]
    if isinstance(tree, tuple):
        return getattr(tree, "_make", type(tree))(parts)  # a named tuple's way past its arguments
    if isinstance(tree, (list, deque)):
        twin = copy.copy(tree)  # a deque keeps its length
        twin.clear()
        twin.extend(parts)
        return twin
    if (registered := _registered(tree)) is not None:
        return registered[1](parts, registered[0](tree)[1])
    twin = copy.copy(tree)
    for name, part in zip(_fields(tree), parts, strict=True):
        object.__setattr__(twin, name, part)  # also where the dataclass is frozen
    return twin


def _fields(tree: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(tree) if hasattr(tree, field.name)]


def _registered(tree: Any) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """How torch's own trees take this type apart and put it together, where it is registered there."""
    try:
        nodes = importlib.import_module("torch.utils._pytree").SUPPORTED_NODES
        node = nodes[type(tree)]
        return node.flatten_fn, node.unflatten_fn
    except (ImportError, AttributeError, KeyError, TypeError):
        return None
