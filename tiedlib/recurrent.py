"""The LSTM language model: input embedding U, stacked LSTM, optional projection P, output embedding V with a bias.

Explained in the chapters `recurrent` (the LSTM) and `tying` (what happens when U and V are one matrix). Sources: Hochreiter
& Schmidhuber 1997; Zaremba, Sutskever & Vinyals 2014, arXiv:1409.2329 (the model and where its dropout stands); Press &
Wolf 2016, arXiv:1608.05859 (tied, projection).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from tiedlib import _arguments as arguments
from tiedlib._ties import ReadsEmbedding, same_numbers
from tiedlib.linear_cross_entropy import linear_cross_entropy

__all__ = ["LSTM", "LanguageModel", "State"]

State = tuple[Float[Tensor, "layers batch hidden"], Float[Tensor, "layers batch hidden"]]


class LSTM(nn.LSTM):
    """`torch.nn.LSTM`, batch first, with one bias of 4H a layer where torch has two that only ever act as their sum.

        i, f, g, o = W_ih x_t + W_hh h_{t−1} + b        (σ of i, f, o; tanh of g)
        c_t = f ⊙ c_{t−1} + i ⊙ g,      h_t = o ⊙ tanh c_t

    The second bias becomes a buffer of zeros under its own name: torch's fast kernels are kept, the optimizer does not see it
    and it is not saved. Whatever is done to the module, its entries are 0 and where the weights are. A layer has
    4H(I + H) + 4H parameters, as in Zaremba et al. Dropout acts between layers only; on a processor its masks are drawn as
    `_dropout` draws them, so that the random numbers are not torch's.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            arguments.whole(name, size)
        arguments.number("dropout", dropout, "in [0, 1)")
        # torch warns about dropout with one layer, where it has no place to act.
        super().__init__(
            input_size, hidden_size, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        for layer in range(num_layers):
            delattr(self, f"bias_hh_l{layer}")
            self.register_buffer(f"bias_hh_l{layer}", None, persistent=False)
        self._zero_second_biases()
        self.register_load_state_dict_post_hook(_zero_second_biases)

    def _zero_second_biases(self) -> None:
        for layer in range(self.num_layers):
            # set as an attribute: so torch's list of weights holds it too
            setattr(
                self, f"bias_hh_l{layer}", torch.zeros_like(getattr(self, f"bias_ih_l{layer}"), requires_grad=False)
            )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Conversions, moves, and `to_empty`, which would leave in the buffer what memory held."""
        super()._apply(fn, recurse)
        self._zero_second_biases()
        return self

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.LSTM`."""
        layered = self.training and self.dropout and isinstance(input, Tensor) and input.ndim == 3
        if not layered or input.device.type != "cpu":  # cuDNN has a faster way of its own
            return super().forward(input, hx)
        if hx is None:
            zeros = input.new_zeros(self.num_layers, len(input), self.hidden_size)
            hx = (zeros, zeros)
        self.check_forward_args(input, hx, None)
        x, ends = input, []
        for k in range(self.num_layers):
            state = (hx[0][k : k + 1].contiguous(), hx[1][k : k + 1].contiguous())
            weights = [getattr(self, f"{name}_l{k}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            x, *end = torch.lstm(x, state, weights, True, 1, 0.0, True, False, True)
            x = _dropout(x, self.dropout, k < self.num_layers - 1)
            ends.append(end)
        h, c = zip(*ends, strict=True)
        return x, (torch.cat(h), torch.cat(c))


def _dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x ⊙ m / (1 − p), m_i = 0 with probability p, to within 2⁻²⁴. As `F.dropout`, whose mask takes twice as long to draw
    on a processor."""
    if not training or not p:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    drawn = torch.rand(x.shape, dtype=torch.float32, device=x.device)
    return x * drawn.ge_(p).to(x.dtype).mul_(1 / (1 - p))


class _TiedLinear(ReadsEmbedding, nn.Linear):  # the matrix is a property here
    """nn.Linear with the matrix of an embedding."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_sizes(input, self.bias)
        return F.linear(input, self.weight, self.bias)


class LanguageModel(nn.Module):
    """p(w_{t+1} | w_1 … w_t) = softmax(V P h_t + b),   h_t = LSTM(U_{w_t}, h_{t−1}).

    U (vocab_size, dim) is the input embedding, V the output embedding with bias b (vocab_size). Without a projection V is
    (vocab_size, hidden) and P is absent; with projection=True, P maps hidden to dim (square where they are equal; with a bias
    of its own if projection_bias) and V is (vocab_size, dim). tied=True makes U and V **one Parameter**, so it is counted
    once, moved by the sum of both gradients, and saved once in `state_dict` (under `embedding.weight`). It stays one when
    the embedding or its weight is exchanged: the output layer reads what the embedding holds. `tied` says how it is now.
    dropout is the probability of dropping an entry, on the non-recurrent connections only: before the first LSTM layer,
    between layers, and after the last (Zaremba et al. 2014).

    Tokens are integers (batch, time). Raises ValueError for sizes < 1, dropout outside [0, 1), projection_bias without
    projection, and tied with dim != hidden where no projection brings them together.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        hidden: int,
        layers: int,
        *,
        tied: bool = False,
        projection: bool = False,
        projection_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(vocab_size, dim, hidden, layers, tied, projection, projection_bias, dropout)
        self.embedding = nn.Embedding(vocab_size, dim)
        self.lstm = LSTM(dim, hidden, layers, dropout=dropout)
        self.projection = nn.Linear(hidden, dim, bias=projection_bias) if projection else None
        self.output = (_TiedLinear if tied else nn.Linear)(dim if projection else hidden, vocab_size)
        self.dropout = dropout
        if isinstance(self.output, _TiedLinear):
            self.output.read(self.embedding)
        # one entry in state_dict: under the embedding's name; loading it loads both roles
        self.register_state_dict_post_hook(_drop_output_weight)
        self.register_load_state_dict_pre_hook(_restore_output_weight)
        self.reset_parameters()

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch's; where the two are tied, a new embedding is the output's too."""
        output = self.__dict__.get("_modules", {}).get("output")
        exchanged = name == "embedding" and isinstance(output, _TiedLinear) and not getattr(self, "_is_replica", False)
        if exchanged and not _inside(value, output.embedding):
            if not isinstance(value, nn.Embedding) or value.weight.shape != output.weight.shape:
                shape = tuple(output.weight.shape)
                raise ValueError(
                    f"embedding is {value}; tied to the output, it must be an nn.Embedding with a weight {shape}"
                )
            output.read(value)
        super().__setattr__(name, value)

    @property
    def tied(self) -> bool:
        """Whether the output's matrix is the embedding's."""
        if isinstance(self.output, _TiedLinear):
            return getattr(self, "_is_replica", False) or _inside(self.embedding, self.output.embedding)
        return self.output.weight is getattr(self.embedding, "weight", None)

    def _check_tie(self) -> None:
        if isinstance(self.output, _TiedLinear) and not self.tied:
            raise RuntimeError(
                "the embedding was exchanged behind the model's back, and the output reads the one before: "
                "set model.embedding = …, which ties the output to it"
            )

    def reset_parameters(self, init_range: float = 0.1, generator: torch.Generator | None = None) -> None:
        """Draw every parameter from U(−init_range, init_range), LSTM biases 0 (Zaremba et al.; forget-gate bias 0)."""
        arguments.number("init_range", init_range, "positive and finite")
        with torch.no_grad():
            for name, p in self.named_parameters():  # a tied matrix is drawn once
                if name.startswith("lstm.bias"):
                    p.zero_()
                else:
                    p.uniform_(-init_range, init_range, generator=generator)

    def hidden_states(
        self, tokens: Int[Tensor, "batch time"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch time out"], State]:
        """What the output embedding multiplies: P h_t (or h_t) after dropout, and the LSTM's state after the last token.

        state None is the zero state. `out` is dim with a projection, else hidden.
        """
        self._check_tie()
        x = _dropout(self.embedding(tokens), self.dropout, self.training)
        h, state = self.lstm(x, state)
        h = _dropout(h, self.dropout, self.training)
        return (h if self.projection is None else self.projection(h)), state

    def forward(
        self, tokens: Int[Tensor, "batch time"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch time vocab"], State]:
        """Logits of the next word at every position, in nats, and the state to carry on."""
        h, state = self.hidden_states(tokens, state)
        return self.output(h), state

    def loss(
        self,
        tokens: Int[Tensor, "batch time"],
        targets: Int[Tensor, "batch time"],
        state: State | None = None,
        reduction: str = "mean",
    ) -> tuple[Float[Tensor, "*loss"], State]:
        """Negative log-likelihood of the targets, in nats a token (reduction="mean"), and the state to carry on."""
        h, state = self.hidden_states(tokens, state)
        return linear_cross_entropy(
            h, self.output.weight, targets, linear_bias=self.output.bias, reduction=reduction
        ), state


def _zero_second_biases(lstm: LSTM, _: object) -> None:
    lstm._zero_second_biases()


def _inside(module: Any, part: nn.Module) -> bool:
    return isinstance(module, nn.Module) and any(one is part for one in module.modules())


def _drop_output_weight(model: LanguageModel, state: dict[str, Tensor], prefix: str, _: object) -> None:
    model._check_tie()
    if model.tied and prefix + "embedding.weight" in state:
        state.pop(prefix + "output.weight", None)


def _restore_output_weight(
    model: LanguageModel,
    state: dict[str, Tensor],
    prefix: str,
    metadata: object,
    strict: bool,
    missing: object,
    unexpected: object,
    errors: list[str],
) -> None:
    name, other = prefix + "embedding.weight", prefix + "output.weight"
    found = [state[key] for key in (name, other) if key in state]
    if not model.tied or not found or "weight" not in model.output._parameters:
        return
    state[name], state[other] = found[0], found[-1]  # one name is enough
    if not same_numbers(*(state[key] for key in (name, other))):
        errors.append(f"{other} differs from {name}: these are the weights of an untied model, this one is tied")


def _check(
    vocab_size: int,
    dim: int,
    hidden: int,
    layers: int,
    tied: bool,
    projection: bool,
    projection_bias: bool,
    dropout: float,
) -> None:
    for name, value in (("vocab_size", vocab_size), ("dim", dim), ("hidden", hidden), ("layers", layers)):
        arguments.whole(name, value)
    arguments.number("dropout", dropout, "in [0, 1)")
    if projection_bias and not projection:
        raise ValueError(
            "projection_bias is True without a projection; set projection=True as well, or leave the bias out"
        )
    if tied and dim != hidden and not projection:
        raise ValueError(
            f"tied is True with dim {dim} and hidden {hidden}; one matrix serves both ends only where they are equal: "
            f"set dim = hidden, or projection=True to map {hidden} to {dim} before the output"
        )
