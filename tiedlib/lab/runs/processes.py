"""One model trained by several processes: `torchrun --nproc-per-node 2 -m tiedlib train …`.

Every process has the whole model and a part of each batch's rows. torch's DistributedDataParallel averages the gradients (gloo
between processors, NCCL between GPUs), so that all of them make the same step, by the gradient of the global batch. What
reads or writes files is done by the first process, and the others are told. A run without torchrun is a group of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tiedlib import _arguments as arguments

__all__ = ["Group", "launched", "moved", "processes", "rank"]

T = TypeVar("T")


def launched() -> bool:
    """Whether torchrun has started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def rank() -> int:
    """The number of this process among those that torchrun has started; 0 without it."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


@dataclass(frozen=True)
class Group:
    """The processes that train one model together: `rank` is this one, of `size`, and computes on `device`."""

    rank: int
    size: int
    device: torch.device

    def rows(self, batched: Tensor) -> Tensor:
        """This process's rows of a batch, on its device: rank·n/size … (rank+1)·n/size − 1 of n. Raises ValueError where
        the processes do not share n evenly, because the mean of their means would then be another."""
        n = len(batched)
        if n % self.size:
            raise ValueError(f"batch is {n}; it must be a multiple of the {self.size} processes")
        share = n // self.size
        return batched[self.rank * share : (self.rank + 1) * share].to(self.device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over the processes while they are made."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module)

    def whole(self, loss: Tensor, nll: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the global batch (the mean over processes; its gradient is still the own part's) and Σ nll over them, so
        that every process sees the same numbers, and stops where another does."""
        if self.size == 1:
            return loss, nll
        both = torch.stack([loss.detach().double() / self.size, nll.double()])
        dist.all_reduce(both)
        return loss + (both[0].to(loss.dtype) - loss.detach()), both[1]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag: whether it is set in any process."""
        if self.size == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)  # on the processor, so that no GPU has to wait
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in found)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in the order of the ranks."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def first(self, do: Callable[[], T]) -> T:
        """What `do` gives in the first process, in all of them; what it raises there is raised everywhere."""
        if self.size == 1:
            return do()
        found: list[Any] = [None, None]
        if self.rank == 0:
            try:
                found[0] = do()
            except Exception as error:
                found[1] = error
        dist.broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def name(self) -> str:
        """What computes: "cpu", or the GPU's name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def random_state(self) -> Tensor:
        """Of the generator that dropout draws from."""
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def set_random_state(self, state: Tensor) -> None:
        """As `random_state` gave it."""
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)


@contextmanager
def processes(device: str = "cpu") -> Iterator[Group]:
    """The group of processes that torchrun started, this one alone without it. A torch.distributed group that is there
    already is used and left. Raises ValueError for a device that is not here."""
    arguments.choice("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda'; PyTorch sees no GPU on this machine, use cpu")
    where = torch.device("cpu")
    if device == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    own = launched() and not dist.is_initialized()
    if own:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        if dist.is_available() and dist.is_initialized():
            yield Group(dist.get_rank(), dist.get_world_size(), where)
        else:
            yield Group(0, 1, where)
    finally:
        if own:
            dist.destroy_process_group()


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, and those in tuples and lists, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(moved(part, device) for part in value)
    return value
