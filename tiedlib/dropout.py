"""Dropout and its relatives: masks over units, weights, words and time, drawn while training and gone when the net is used.

Explained in the chapter `dropout`. Sources: Srivastava et al. 2014, JMLR 15:1929 (dropout); Wan et al. 2013 (DropConnect);
Gal & Ghahramani 2016, arXiv:1512.05287 (one mask a sequence, words), and 2016, arXiv:1506.02142 (averaging over masks); Merity,
Keskar & Socher 2018, arXiv:1708.02182 (weight-dropped LSTM); Zaremba et al. 2014, arXiv:1409.2329 (where it stands in an LSTM).

p is always the probability that an entry is **dropped**, as in torch, and lies in [0, 1); r = 1 − p is the probability that it
is kept, which papers and older code call p as well. A mask m has independent entries, P(m = 1) = 1 − p, and survivors are
divided by 1 − p ("inverted" dropout), so that E[y] = x and nothing is left to do when training is over. A p that is a
tensor of no dimension is never looked at, so that it may differ from run to run of a grid.

Every function raises ValueError for p outside [0, 1) (at p = 1 nothing is left to scale) or NaN, and TypeError for a p that is
no number or tensors that are not floating point. A dropped entry is 0 and has gradient 0, also where x is infinite.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tiedlib import _arguments as arguments
from tiedlib._trees import leaves, mapped

__all__ = [
    "Dropout",
    "EmbeddingDropout",
    "VariationalDropout",
    "WeightDropLSTM",
    "apply_mask",
    "classic_dropout",
    "drop_connect",
    "dropout",
    "embedding_dropout",
    "every_mask",
    "keep_mask",
    "masked_lstm",
    "monte_carlo",
]

Rate = float | int | Float[Tensor, ""]  # a tensor where a grid of runs has one value each
Array = Float[Tensor, "*shape"]


def keep_mask(
    shape: Sequence[int], p: Rate, *, generator: Generator | None = None, device: torch.device | str | None = None
) -> Bool[Tensor, "*shape"]:
    """m with independent entries, True (kept) with probability 1 − p. device: the generator's, or torch's default, if None."""
    arguments.number("p", p, "in [0, 1)")
    arguments.replayable(generator)
    if device is None:
        device = torch.get_default_device() if generator is None else generator.device
    wide = torch.float32 if torch.device(device).type == "mps" else torch.float64  # 1 − p must keep its digits
    keep = 1 - torch.as_tensor(p, dtype=wide, device=device)
    return torch.bernoulli(keep.expand(tuple(shape)), generator=generator).bool()


def apply_mask(x: Array, keep: Bool[Tensor, "*mask"], p: Rate) -> Array:
    """y = m ⊙ x / (1 − p),   m = keep, broadcast to the shape of x (ValueError where it cannot be)."""
    arguments.number("p", p, "in [0, 1)")
    arguments.floating(x=x)
    if keep.dim() > x.dim() or any(a not in (1, b) for a, b in zip(keep.shape[::-1], x.shape[::-1], strict=False)):
        raise ValueError(f"keep has shape {tuple(keep.shape)} and x {tuple(x.shape)}; it must broadcast to that")
    return _masked((x / (1 - p)).to(x.dtype), keep)


def _masked(x: Tensor, keep: Tensor) -> Tensor:
    """m ⊙ x, 0 where m is also for an infinite x; the result lies in memory as x does (channels last, say)."""
    if x.is_contiguous():
        return x.masked_fill(~keep, 0.0)
    return torch.where(torch.ones_like(x, dtype=torch.bool) & keep, x, 0.0)


def dropout(
    x: Array, p: Rate, training: bool = True, generator: Generator | None = None, *, shared: Sequence[int] = ()
) -> Array:
    """y = m ⊙ x / (1 − p) in training, y = x otherwise.   E[y] = x,  Var[y] = x² p / (1 − p), entry by entry.

    One mask entry for each entry of x; along the axes named in `shared` all entries have the same one (ValueError for an axis
    that x has not). Srivastava et al. 2014, section 10 (scaled in training); arguments as torch.nn.functional.dropout.
    """
    arguments.number("p", p, "in [0, 1)")
    arguments.floating(x=x)
    shape = list(x.shape)
    for axis in shared:
        if not -x.dim() <= axis < x.dim():
            raise ValueError(f"shared names axis {axis}; x has shape {tuple(x.shape)}, and it must name its axes")
        shape[axis] = 1
    if not training or arguments.is_zero(p):
        return x
    return apply_mask(x, keep_mask(shape, p, generator=generator, device=x.device), p)


def classic_dropout(x: Array, p: Rate, training: bool = True, generator: Generator | None = None) -> Array:
    """y = m ⊙ x in training, y = (1 − p) x otherwise: dropout as first published (Srivastava et al. 2014, section 4).

    Both have the same mean, (1 − p) x. Whoever leaves out the factor after training feeds the next layer 1/(1 − p) times what
    it was trained on.
    """
    arguments.number("p", p, "in [0, 1)")
    arguments.floating(x=x)
    if not training:
        return (x * (1 - p)).to(x.dtype)
    return _masked(x, keep_mask(x.shape, p, generator=generator, device=x.device))


def drop_connect(
    x: Float[Tensor, "*batch in"],
    weight: Float[Tensor, "out in"],
    p: Rate,
    bias: Float[Tensor, " out"] | None = None,
    training: bool = True,
    generator: Generator | None = None,
) -> Float[Tensor, "*batch out"]:
    """y = (M ⊙ W) x / (1 − p) + b,   M a mask over the **weights**, drawn for each row of x; y = W x + b after training.

    Wan et al. 2013, section 3, with survivors scaled. It costs batch × out × in mask entries, where dropout costs batch × in.
    ValueError for shapes that do not fit.
    """
    arguments.number("p", p, "in [0, 1)")
    arguments.floating(x=x, weight=weight, **({} if bias is None else {"bias": bias}))
    if x.shape[-1:] != weight.shape[1:]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}; their last axes must be equal"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}; it must be ({len(weight)},), one for each row of weight")
    if not training or arguments.is_zero(p):
        return F.linear(x, weight, bias)
    y = (dropout(weight.expand(*x.shape[:-1], *weight.shape), p, True, generator) @ x.unsqueeze(-1)).squeeze(-1)
    return y if bias is None else y + bias


def embedding_dropout(
    tokens: Int[Tensor, "*batch"],
    weight: Float[Tensor, "vocab dim"],
    p: Rate,
    training: bool = True,
    generator: Generator | None = None,
    *,
    per_sequence: bool = False,
) -> Float[Tensor, "*batch dim"]:
    """m_w U_w / (1 − p) for each token w,   one mask entry for each word **type**: all occurrences of a word vanish together.

    U = weight. One mask for the whole call (Merity et al. 2018, section 4.3), or, per_sequence=True, one for each sequence,
    tokens (batch, time), as in Gal & Ghahramani 2016, section 4.2. Raises ValueError for tokens outside the vocabulary, or that
    have no two axes with per_sequence; TypeError for tokens that are no integers.
    """
    arguments.number("p", p, "in [0, 1)")
    arguments.whole_numbers(tokens=tokens)
    arguments.floating(weight=weight)
    if tokens.numel() and not arguments.holds(((tokens >= 0) & (tokens < len(weight))).all()):
        raise ValueError(f"tokens holds {int(tokens.min())} … {int(tokens.max())}; words are 0 … {len(weight) - 1}")
    if per_sequence and tokens.dim() != 2:
        raise ValueError(f"tokens has shape {tuple(tokens.shape)}; with per_sequence it must be (batch, time)")
    vectors = F.embedding(tokens, weight)
    if not training or arguments.is_zero(p):
        return vectors
    keep = keep_mask((len(tokens) if per_sequence else 1, len(weight)), p, generator=generator, device=weight.device)
    kept = keep.gather(1, tokens.long()) if per_sequence else keep[0][tokens.long()]
    return apply_mask(vectors, kept.unsqueeze(-1), p)


def masked_lstm(
    x: Float[Tensor, "batch time in"],
    lstm: nn.LSTM,
    input_mask: Float[Tensor, "#batch #time #in"] | None = None,
    hidden_mask: Float[Tensor, "#batch #time #hidden"] | None = None,
) -> Float[Tensor, "batch time hidden"]:
    """h_t of the first layer of `lstm`, which reads x_t ⊙ a_t and h_{t−1} ⊙ b_t in place of x_t and h_{t−1}.

    a = input_mask and b = hidden_mask are factors 0 or 1/(1 − p), such as dropout(torch.ones(batch, 1, hidden), p) gives: with a
    time axis of length 1 the mask is that of Gal & Ghahramani 2016, section 4, unchanged at every step. c_t is never masked.
    The state starts at zero. Written in plain operations, for `vmap`. Raises ValueError for x that is not (batch, time, in).
    """
    arguments.floating(x=x)
    if x.dim() != 3 or x.shape[2] != lstm.input_size:
        raise ValueError(f"x has shape {tuple(x.shape)}; it must be (batch, time, {lstm.input_size})")
    w: Any = lstm
    bias = w.bias_ih_l0 + w.bias_hh_l0 if lstm.bias else None
    inputs = F.linear(x if input_mask is None else x * input_mask, w.weight_ih_l0, bias)
    h = c = x.new_zeros(len(x), lstm.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        if hidden_mask is not None:
            h = h * hidden_mask[:, min(t, hidden_mask.shape[1] - 1)]
        i, f, g, o = (inputs[:, t] + F.linear(h, w.weight_hh_l0)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1) if outputs else x.new_zeros(len(x), 0, lstm.hidden_size)


def monte_carlo(model: nn.Module, *inputs: Any, samples: int = 100) -> Any:
    """Outputs of `samples` passes with fresh masks, (samples, *out): dropout is on, every other module is in evaluation mode.

    The mean over the first axis is the average over the networks that masks cut out (Gal & Ghahramani 2016, arXiv:1506.02142,
    section 4). No gradient; modes are put back. Of an output of several tensors, in tuples or dicts, each is stacked. Dropout
    is what torch's modules of that name do, what nn.MultiheadAttention, nn.LSTM, nn.GRU and nn.RNN do between layers, and what
    a module with a number `dropout` does; torch's fast path for encoders, which leaves it out, is off meanwhile.
    Raises ValueError for samples < 1, or a model without such a module or where none of them drew a mask, so that all samples
    would be equal.
    """
    arguments.whole("samples", samples)
    modes = [(module, module.training) for module in model.modules()]
    if not any(_drops(module) for module, _ in modes):
        raise ValueError(
            f"model is a {type(model).__name__} without a dropout module of a rate above 0; there is nothing to average over"
        )
    generators = [g for module, _ in modes if isinstance(g := getattr(module, "generator", None), Generator)]
    with _without_fast_path(), torch.no_grad():
        try:
            for module, _ in modes:
                module.training = _drops(module)
            before = _random_states(generators)
            outputs = [model(*inputs) for _ in range(samples)]
        finally:
            for module, mode in modes:
                module.training = mode
    if before == _random_states(generators):
        raise ValueError(
            f"model is a {type(model).__name__} whose dropout modules drew no mask; there is nothing to average over"
        )
    columns = zip(*([leaf for leaf in leaves(one) if isinstance(leaf, Tensor)] for one in outputs), strict=True)
    return mapped(lambda _: torch.stack(next(columns)), outputs[0])


_RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)
_TORCHS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def _drops(module: nn.Module) -> bool:
    if isinstance(module, (Dropout, WeightDropLSTM, *_TORCHS)):
        return bool(module.p)
    if isinstance(module, _RECURRENT) and module.num_layers == 1:  # torch's acts between layers
        return False
    rate = getattr(module, "dropout", 0.0)
    return isinstance(rate, float) and 0 < rate < 1


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """nn.TransformerEncoder in evaluation mode calls one fused kernel, which knows no dropout."""
    switch = getattr(torch.backends, "mha", None)
    before = switch.get_fastpath_enabled() if switch else True
    try:
        if switch:
            switch.set_fastpath_enabled(False)
        yield
    finally:
        if switch:
            switch.set_fastpath_enabled(before)


def _random_states(generators: Iterable[Generator]) -> list[bytes]:
    """Where every generator stands that a mask may be drawn from."""
    states = [torch.get_rng_state(), *(g.get_state() for g in generators)]
    states += torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [bytes(state.cpu().numpy()) for state in states]


def every_mask(n: int, p: float) -> tuple[Bool[Tensor, "masks n"], Float[Tensor, " masks"]]:
    """All 2ⁿ masks over n ≤ 20 entries and the probability of each, (1 − p)^kept p^(n − kept): for exact expectations."""
    arguments.number("p", p, "in [0, 1)")
    arguments.whole("n", n, 0)
    if n > 20:
        raise ValueError(f"n is {n}; it must lie in 0 … 20, there are 2ⁿ masks")
    masks = torch.tensor(list(itertools.product((False, True), repeat=n)), dtype=torch.bool).reshape(2**n, n)
    kept = masks.sum(1).double()
    return masks, (1 - p) ** kept * p ** (n - kept)


class Dropout(nn.Module):
    """`dropout` at the rate p, on in training mode, off after `.eval()`. As torch.nn.Dropout; draws from `generator` if given."""

    def __init__(self, p: float | int = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__()
        arguments.number("p", p, "in [0, 1)")
        self.p, self.generator = p, generator

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Array) -> Array:
        return dropout(x, self.p, self.training, self.generator)


class VariationalDropout(Dropout):
    """One mask a sequence: `dropout` of (batch, time, features) with the same mask at every step, another for each sequence.

    Gal & Ghahramani 2016, section 4. batch_first=False takes (time, batch, features). A PackedSequence is taken and given.
    ValueError where x has no three axes.
    """

    def __init__(self, p: float | int = 0.5, *, batch_first: bool = True, generator: Generator | None = None) -> None:
        super().__init__(p, generator=generator)
        self.batch_first = batch_first

    def extra_repr(self) -> str:
        return f"p={self.p}, batch_first={self.batch_first}"

    def forward(self, x: Any) -> Any:
        if isinstance(x, PackedSequence):
            return self._packed(x)
        if x.dim() != 3:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must have three axes: batch, time, features")
        return dropout(x, self.p, self.training, self.generator, shared=(1 if self.batch_first else 0,))

    def _packed(self, x: PackedSequence) -> PackedSequence:
        """Step t holds a row for each of the batch_sizes[t] longest sequences, always in the same order."""
        masks = dropout(x.data.new_ones(int(x.batch_sizes[0]), x.data.shape[1]), self.p, self.training, self.generator)
        rows = torch.cat([torch.arange(int(size)) for size in x.batch_sizes]).to(x.data.device)
        return x._replace(data=apply_mask(x.data, masks[rows] != 0, self.p if self.training else 0))


class EmbeddingDropout(Dropout):
    """An nn.Embedding whose words drop out whole; see `embedding_dropout`. The embedding is the one given, not a copy.

    Its own weight is never masked, so an output layer tied to it keeps all its rows; its options, padding_idx among them, hold.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        p: float | int = 0.1,
        *,
        per_sequence: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(p, generator=generator)
        if not isinstance(embedding, nn.Embedding):
            raise TypeError(f"embedding is a {type(embedding).__name__}; it must be an nn.Embedding")
        self.embedding, self.per_sequence = embedding, per_sequence

    def extra_repr(self) -> str:
        return f"p={self.p}, per_sequence={self.per_sequence}"

    def forward(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        ones = self.embedding.weight.new_ones(self.embedding.num_embeddings, 1)
        how = (self.p, self.training, self.generator)
        kept = embedding_dropout(tokens, ones, *how, per_sequence=self.per_sequence) != 0
        return apply_mask(self.embedding(tokens), kept, self.p if self.training else 0)


class WeightDropLSTM(nn.LSTM):
    """torch.nn.LSTM with DropConnect on its recurrent weights: every pass in training runs on M ⊙ W_hh / (1 − p).

    Merity et al. 2018, section 2. One mask for all steps and all sequences of a pass, a fresh one each pass, one for each
    layer and direction. Parameters, names and state_dict are nn.LSTM's: the optimizer moves the raw W_hh, whose gradient is 0
    where the mask was. p = 0 or eval(): nn.LSTM itself. options go to nn.LSTM (num_layers, batch_first, …).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        p: float | int = 0.5,
        *,
        generator: Generator | None = None,
        **options: Any,
    ) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            arguments.whole(name, size)
        arguments.number("p", p, "in [0, 1)")
        super().__init__(input_size, hidden_size, num_layers, **options)
        self.p, self.generator = p, generator

    def forward(self, input: Any, hx: Any = None) -> Any:
        if not self.training or self.p == 0:
            return super().forward(input, hx)
        # A plain nn.LSTM with masked tensors for weights, for this pass alone: what others read of this module never changes.
        pass_ = nn.LSTM.__new__(nn.LSTM)
        pass_.__dict__.update({k: copy.copy(v) if isinstance(v, (dict, list)) else v for k, v in self.__dict__.items()})
        for name in self._weight_names():
            weight = getattr(self, name)  # a Parameter, or what weight_norm, a parametrization, a replica have there
            if name.startswith("weight_hh"):
                weight = dropout(weight, self.p, True, self.generator)
            if not isinstance(weight, nn.Parameter):
                if name in pass_._parameters:
                    delattr(pass_, name)
                setattr(pass_, name, weight)  # so torch's own list of the weights learns of it
        return pass_.forward(input, hx)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}"

    def _weight_names(self) -> Iterator[str]:
        kinds = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        kinds += ["weight_hr"] if self.proj_size else []
        for layer in range(self.num_layers):
            for direction in ("", "_reverse")[: 1 + self.bidirectional]:
                yield from (f"{kind}_l{layer}{direction}" for kind in kinds)
