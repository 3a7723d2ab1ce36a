"""A layer without a matrix of its own: it reads that of an embedding. Explained in the chapter `tying`.

Two modules that hold the same Parameter are tied as long as neither exchanges it, and much does: `load_state_dict(assign=True)`,
a conversion that overwrites, `to_empty`, a new `embedding.weight`, a parametrization. They then part in silence. A layer that
asks the embedding for its matrix at every use cannot part from it. Where torch lists a module's parameters, the layer shows
the embedding's Parameter as its own, so that names, counts and state_dicts are those of two modules that hold one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

from torch import Tensor, nn

__all__ = ["ReadsEmbedding", "same_numbers"]


class ReadsEmbedding(nn.Module):
    """`weight` is the weight of an embedding, whatever that is at the moment; setting it sets the embedding's.

    Raises ValueError where somebody wants to prune, normalize or parametrize the layer's matrix: that is the embedding's to do.
    """

    def read(self, embedding: nn.Embedding) -> None:
        """From now on the matrix is that of `embedding`."""
        self.__dict__["_parameters"] = _Shown(embedding, {"weight": None, **self._parameters})

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding whose matrix this layer reads."""
        return self._parameters.embedding  # type: ignore[attr-defined]

    @property
    def weight(self) -> Any:
        """The embedding's matrix: the same Parameter, never a copy."""
        if "_replica" in self.__dict__:
            return self.__dict__["_replica"]
        if not isinstance(self._parameters, _Shown):  # while torch builds the layer
            return super().__getattr__("weight")
        return self._parameters.embedding.weight

    @weight.setter
    def weight(self, value: Tensor) -> None:  # of a Parameter, torch makes a call of register_parameter
        if not getattr(self, "_is_replica", False):
            raise TypeError(f"weight is a {type(value).__name__}; it must be an nn.Parameter")
        self.__dict__["_replica"] = value  # nn.DataParallel's copy on another device

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As torch's; a new `weight` becomes the embedding's."""
        if not isinstance(self._parameters, _Shown) or not name.startswith("weight"):
            super().register_parameter(name, param)
        elif name != "weight":
            raise _not_here(name)
        else:
            shape = tuple(self.weight.shape)
            if param is None or tuple(param.shape) != shape:
                said = "None" if param is None else f"of shape {tuple(param.shape)}"
                raise ValueError(f"weight is {said}; it must have the embedding's shape {shape}")
            self.embedding.weight = param

    def _check_sizes(self, h: Tensor, bias: Tensor | None) -> None:
        rows, features = self.weight.shape
        if h.shape[-1] != features:
            raise ValueError(
                f"h has {h.shape[-1]} features and the embedding {features}; they must be equal: "
                "make the last layer as wide as the embedding, or put a projection between them"
            )
        if bias is not None and len(bias) != rows:
            raise ValueError(f"bias has {len(bias)} entries and the embedding {rows} words; they must be equal")


def _not_here(name: str) -> ValueError:
    return ValueError(
        f"{name} is no parameter of this layer, which reads the matrix of its embedding; "
        "prune, normalize or parametrize the weight of the embedding"
    )


@no_type_check
class _Shown(dict[str, Any]):
    """A layer's parameters by name; "weight" is the embedding's, looked up whenever torch looks, and cannot be set here."""

    def __init__(self, embedding: nn.Embedding, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.embedding = embedding

    def refresh(self) -> None:
        held = self.embedding._parameters
        if "weight" in held:
            dict.__setitem__(self, "weight", held["weight"])
        else:  # parametrized or pruned: no Parameter, also here
            dict.pop(self, "weight", None)

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "weight":  # a conversion's, or functional_call's: the embedding gets the same
            super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        if name == "weight":
            raise _not_here(name)
        super().__delitem__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Shown, (self.embedding, {name: None if name == "weight" else self[name] for name in self})


def _up_to_date(name: str) -> Callable[..., Any]:
    @no_type_check  # which would print the layer, and so come here again
    def method(shown: _Shown, *args: Any) -> Any:
        shown.refresh()
        return getattr(dict, name)(shown, *args)

    return method


for _method in ("__getitem__", "__contains__", "__iter__", "__len__", "get", "keys", "values", "items", "copy"):
    setattr(_Shown, _method, _up_to_date(_method))


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN at the same places included; True where one has none (the meta device)."""
    if a is b or a.is_meta or b.is_meta:
        return True
    if a.shape != b.shape:
        return False
    a, b = a.detach().cpu(), b.detach().cpu()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
