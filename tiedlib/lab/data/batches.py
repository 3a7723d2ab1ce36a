"""A long text as rows of a batch, cut into windows: truncated back-propagation through time with carried state.

The layout is batch first. A text of n tokens becomes `batch_size` rows that each hold a stretch of consecutive tokens;
window after window moves along all rows at once, so that row b of one window goes on where row b of the last one ended
and the recurrent state can be carried over (Zaremba, Sutskever and Vinyals 2014, arXiv:1409.2329, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from jaxtyping import Int
from torch import Tensor

from tiedlib import _arguments as arguments

Window = tuple[Tensor, Tensor]  # inputs and targets, each Int[Tensor, "batch unroll"]


def contiguous_batches(tokens: Int[Tensor, " n"], batch_size: int) -> Int[Tensor, "batch steps"]:
    """Cut a text into batch_size rows of n // batch_size consecutive tokens: a view of `tokens`, no copy.

    The last n mod batch_size tokens fit in no row and are left out. Raises ValueError where batch_size < 1, or where a
    row would have fewer than 2 tokens (one to read and one to predict).
    """
    arguments.whole("batch_size", batch_size)
    steps = len(tokens) // batch_size
    if steps < 2:
        raise ValueError(
            f"batch_size is {batch_size}; {len(tokens)} tokens give rows of {steps}; each row needs at least 2 tokens, "
            f"so choose at most {len(tokens) // 2} or a longer text"
        )
    return tokens[: batch_size * steps].view(batch_size, steps)


class Windows(Sequence[Window]):
    """Pairs (inputs, targets) along the rows of `batched`; make one with `windows`.

    `w[i]` is one pair, both of shape (batch, unroll), targets one token later than inputs; `w[a:b]` is a `Windows` of
    some of the pairs. All pairs are views. It can be gone through again and again.
    """

    def __init__(self, batched: Int[Tensor, "batch steps"], unroll: int, starts: range) -> None:
        self.batched = batched
        self.unroll = unroll
        self.starts = starts

    def _window(self, start: int) -> Window:
        end = min(start + self.unroll, self.batched.shape[1] - 1)
        return self.batched[:, start:end], self.batched[:, start + 1 : end + 1]

    @overload
    def __getitem__(self, key: int) -> Window: ...
    @overload
    def __getitem__(self, key: slice) -> Windows: ...
    def __getitem__(self, key: int | slice) -> Window | Windows:
        if isinstance(key, slice):
            return Windows(self.batched, self.unroll, self.starts[key])
        if not -len(self) <= key < len(self):
            raise IndexError(f"window {key}: there are {len(self)} windows")
        return self._window(self.starts[key])

    def __iter__(self) -> Iterator[Window]:
        return map(self._window, self.starts)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def tokens(self) -> int:
        """How many tokens are predicted in one pass."""
        rows, last = self.batched.shape[0], self.batched.shape[1] - 1
        return rows * sum(min(start + self.unroll, last) - start for start in self.starts)

    def __repr__(self) -> str:
        rows = self.batched.shape[0]
        return f"Windows({len(self)} windows of {rows} rows × up to {self.unroll} steps, {self.tokens} tokens)"


def windows(batched: Int[Tensor, "batch steps"], unroll: int, *, keep_last: bool = True) -> Windows:
    """Windows of `unroll` steps along the rows of `batched`, in order.

    inputs = batched[:, t : t + unroll], targets = batched[:, t + 1 : t + unroll + 1], for t = 0, unroll, 2·unroll, …
    Every token but the first of each row is a target exactly once. Where unroll does not divide steps − 1 the last
    window is shorter; keep_last=False leaves it out, as the code of Zaremba et al. does. Raises ValueError where
    unroll < 1 or rows have fewer than 2 tokens.
    """
    arguments.whole("unroll", unroll)
    predicted = batched.shape[1] - 1
    if predicted < 1:
        raise ValueError(f"batched has shape {tuple(batched.shape)}; each row must have at least 2 tokens")
    stop = predicted if keep_last else predicted - predicted % unroll
    return Windows(batched, unroll, range(0, stop, unroll))
