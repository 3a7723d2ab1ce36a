"""Matrix products on a processor: torch's own, or oneDNN's where this machine has them and they are right.

Used by `linear_cross_entropy`; explained in the chapter `fast_output`. torch multiplies float32 matrices with MKL, which is
Intel's, and the fastest there is on its makers' processors alone; oneDNN, in the same wheel, does better on others. In
bfloat16 torch goes through oneDNN itself, but copies the bias out to every row first, where oneDNN adds it at the end. The
call is not part of torch's documented interface: it is therefore looked for, compared once with `F.linear`, and left
alone where it is missing, fails, or gives something else. Which of the two is used rounds the last bits, so a run keeps the
name of its backend: `backend()` says it, `using(name)` sets it. Other dtypes and devices always take torch's own.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tiedlib._undocumented import undocumented

__all__ = ["BACKENDS", "OuterSum", "backend", "fastest", "linear", "room", "softmax_", "use", "using"]

# The dtypes whose products oneDNN makes.
_ONEDNN = {
    "torch": (),
    "onednn": (torch.float32, torch.bfloat16),
    "onednn-bfloat16": (torch.bfloat16,),
}
BACKENDS = tuple(_ONEDNN)
_POINTWISE = undocumented("ops.mkldnn._linear_pointwise")
_chosen: ContextVar[str | None] = ContextVar("tiedlib backend", default=None)


def backend() -> str:
    """The backend in use, one of BACKENDS: what `use` or `using` set, else the fastest that this machine has."""
    return _chosen.get() or fastest()


def use(name: str) -> None:
    """Take this backend from now on, or torch's where the machine lacks it. Raises ValueError for an unknown name."""
    if name not in BACKENDS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(map(repr, BACKENDS))}")
    _chosen.set(name if name == "torch" or _has_onednn() else "torch")


@contextmanager
def using(name: str | None = None) -> Iterator[None]:
    """Inside, this backend as `use` sets it (None: the one in use); afterwards what was used before."""
    before = _chosen.set(_chosen.get())
    try:
        if name is not None:
            use(name)
        yield
    finally:
        _chosen.reset(before)


@cache
def fastest() -> str:
    """The best backend by what the machine is, not by a clock, so that the same machine always takes the same one: oneDNN where
    it is there and right, for bfloat16 alone where torch has MKL on a processor of MKL's makers."""
    if not _has_onednn():
        return "torch"
    return "onednn-bfloat16" if torch.backends.mkl.is_available() and "Intel" in _processor() else "onednn"


@cache
def _has_onednn() -> bool:
    # Measured on processors with AVX-512 alone, of AMD and of Intel; elsewhere torch's own choice is left as it is.
    able = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return able and _is_right()


def _processor() -> str:
    """The processor's name, or an empty text where that is not told."""
    tell = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch that we promise
    return str((tell() if tell else {}).get("cpu_name") or platform.processor())


def _is_right() -> bool:
    """Whether oneDNN's calls exist and agree with torch's, on matrices with odd sizes and transposed views."""
    grid = torch.arange(70 * 33 + 129 * 33, dtype=torch.float64, device="cpu").sin().float()
    x, w = grid[: 70 * 33].reshape(70, 33), grid[70 * 33 :].reshape(129, 33)
    bias = w[:, 0].contiguous()
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            g = F.linear(x, w)
            twice = _onednn_add(_onednn_add(None, x.t(), g), x.t(), g)
            low = (x.bfloat16(), w.bfloat16(), bias.bfloat16())
            pairs = [
                (_onednn_linear(x, w, bias), F.linear(x, w, bias)),
                (_onednn_linear(g, w.t(), None), F.linear(g, w.t())),
                (twice, 2 * F.linear(x.t(), g.t())),
                (_onednn_linear(*low), F.linear(*low)),
            ]
        near = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
        return all(bool((a - b).abs().max() <= near[b.dtype] * b.abs().max()) for a, b in pairs)  # False for NaN
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False


@cache
def _softmax_overwrites() -> bool:
    """Whether torch's softmax may write over its own input, which its documentation does not say."""
    z = torch.arange(70 * 129, dtype=torch.float32, device="cpu").sin().mul(100).reshape(70, 129)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        expected = torch.softmax(z, -1)
        torch.softmax(z, -1, out=z)
        return bool((z - expected).abs().max() <= 1e-6)


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _POINTWISE(x, weight, bias, "none", [], "")


def _onednn_add(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """total + a b, the sum fused into the product."""
    if total is None:
        return _onednn_linear(a, b.t(), None)
    return _POINTWISE.binary(a, total, b.t(), None, "add")


def _takes_onednn(dtype: torch.dtype, *matrices: Tensor) -> bool:
    fits = all(m.dtype is dtype and m.device.type == "cpu" and m.numel() for m in matrices)
    return fits and dtype in _ONEDNN[backend()]


def linear(
    x: Float[Tensor, "rows in"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, " out"] | None = None,
    out: Float[Tensor, "rows out"] | None = None,
) -> Float[Tensor, "rows out"]:
    """x Wᵀ + b, as `F.linear`; W may be a transposed view. `out` is a part of what `room` gave, and its values are lost.
    Not for autograd: the result has no gradient."""
    if _takes_onednn(x.dtype, x, weight):
        return _onednn_linear(x, weight, bias)
    if out is None:
        return F.linear(x, weight, bias)
    torch.mm(x, weight.t(), out=out)
    return out if bias is None else out.add_(bias)  # addmm would first copy the bias out to every row


def room(rows: int, x: Float[Tensor, "any in"], weight: Float[Tensor, "out in"]) -> Float[Tensor, "rows out"] | None:
    """Memory for the results of `linear`, one after the other, so that it is asked for once; None where oneDNN, which brings
    its own, makes them."""
    return None if _takes_onednn(x.dtype, x, weight) else x.new_empty(rows, len(weight))


def softmax_(z: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """softmax over each row, written over z itself."""
    if z.device.type == "cpu" and z.dtype is torch.float32 and _softmax_overwrites():
        return torch.softmax(z, dim=-1, out=z)  # one call, a row at a time while it is in the cache
    z.sub_(z.amax(-1, keepdim=True)).exp_()
    return z.div_(z.sum(-1, keepdim=True))


class OuterSum:
    """Σ_r g_r h_rᵀ = Gᵀ H over blocks of rows, each block one product that is added into the sum where it lies.

    G (rows, m), H (rows, n) give (m, n). Half-precision products are added up in float32. oneDNN is fastest at the
    transposed sum, (n, m), where the large G stands as it is; `read` turns it round.
    """

    def __init__(self, total: Tensor | None = None, transposed: bool | None = None) -> None:
        self.total, self.transposed = total, transposed

    def add(self, g: Float[Tensor, "rows m"], h: Float[Tensor, "rows n"]) -> None:
        """Add the product of one block."""
        if self.transposed is None:
            self.transposed = _takes_onednn(torch.float32, g, h)
        if self.transposed:
            self.total = _onednn_add(self.total, h.t().contiguous(), g)
        elif g.dtype in (torch.float16, torch.bfloat16):
            product = g.t() @ h
            self.total = product.float() if self.total is None else self.total.add_(product)
        else:
            self.total = g.t() @ h if self.total is None else self.total.addmm_(g.t(), h)

    def take(self, scale: Float[Tensor, ""]) -> Float[Tensor, "m n"]:
        """scale · the sum, which is given away: it may be written over, and there is none afterwards. Raises ValueError before
        the first block and the second time."""
        total, self.total = self.total, None
        if total is None:
            raise ValueError("add was not called; a sum over no block has no shape")
        if self.transposed:
            total = total.t().clone(memory_format=torch.contiguous_format)
        return total.mul_(scale)
