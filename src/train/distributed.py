"""Training by several processes: each takes its share of every batch, and their gradients are added up.

The shares of a batch are together the batch a single process takes, and what they add up to is its gradient, rows of
sparse tables included; so training takes the same steps, whatever the number of processes. Validation is shared
likewise: every example is judged once, by one of them.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import Sampler

from shopkeeper.config import UserError
from shopkeeper.data.batches import TokenBatches

RANK = "LOCAL_RANK"
"""Environment variable that tells a process its number; Lightning reads it too."""


def rank_and_world() -> tuple[int, int]:
    """Number of this process and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leads() -> bool:
    """Whether this process is the first, which writes what is kept."""
    return os.environ.get(RANK, "0") == "0" and rank_and_world()[0] == 0


class SharedBatches(Sampler[np.ndarray]):
    """This process's share of every batch; where a batch has fewer pieces than there are processes, none for some."""

    def __init__(self, batches: TokenBatches) -> None:
        self.whole = batches

    def set_epoch(self, epoch: int) -> None:
        self.whole.set_epoch(epoch)

    def __iter__(self) -> Iterator[np.ndarray]:
        rank, world = rank_and_world()
        for pieces in self.whole:
            yield pieces[rank::world]


class SummedGradients(DDPStrategy):
    """Lightning's processes without torch's wrapper, which takes means of gradients and does not know lazy tables."""

    def configure_ddp(self) -> None:
        """Nothing: `sum_gradients` is called after each backward pass."""


def summed_gradients(strategy: str) -> SummedGradients:
    """The strategy that several processes train by.

    Raises:
        UserError: when another than `ddp` is asked for.
    """
    if strategy not in ("ddp", "auto"):
        raise UserError(f"trainer.strategy={strategy}: several devices train with ddp alone")
    return SummedGradients(process_group_backend="cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def share_of_positions(positions: Tensor) -> Tensor:
    """What part of the whole batch's positions these are of this process; 1 where it is alone."""
    _, world = rank_and_world()
    if world == 1:
        return torch.ones((), device=positions.device)
    total = positions.clone()
    dist.all_reduce(total)
    return positions / total.clamp(min=1)


@torch.no_grad()
def sum_gradients(model: nn.Module, *others: nn.Parameter) -> None:
    """Give every process the sum of all gradients, of the model's and other parameters; where none has one, none."""
    if rank_and_world()[1] == 1:
        return
    tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse}
    sum_dense([p for p in (*model.parameters(), *others) if p not in tables])
    for table in (p for p in model.parameters() if p in tables):
        table.grad = gathered_rows(table)


def sum_dense(parameters: list[nn.Parameter]) -> None:
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    flat = torch.cat([used, *((p if p.grad is None else p.grad).flatten() * (p.grad is not None) for p in parameters)])
    dist.all_reduce(flat)
    used, *sums = flat.split([len(parameters), *(p.numel() for p in parameters)])
    for p, count, total in zip(parameters, used.tolist(), sums, strict=True):
        p.grad = total.view_as(p) if count else None


def gathered_rows(table: nn.Parameter) -> Tensor | None:
    """The rows all processes name, with the sum of their gradients; equal ones are the same bits everywhere."""
    if table.grad is None:
        rows, values = torch.zeros(0, dtype=torch.int64, device=table.device), table[:0]
    else:
        own = table.grad.coalesce()
        rows, values = own.indices()[0], own.values()
    rows, values = gather(rows), gather(values)
    if not len(rows):
        return None
    return torch.sparse_coo_tensor(rows[None], values, table.shape, check_invariants=True).coalesce()


def gather(part: Tensor) -> Tensor:
    """The parts (n, ...) of all processes, whose lengths differ, one after the other."""
    _, world = rank_and_world()
    sizes = [torch.zeros(1, dtype=torch.int64, device=part.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(part)], device=part.device))
    longest = max(int(size) for size in sizes)
    padded = part.new_zeros(longest, *part.shape[1:])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    return torch.cat([found[: int(size)] for found, size in zip(parts, sizes, strict=True)])


@torch.no_grad()
def begin_alike(parameters: Iterable[Tensor]) -> None:
    """All processes start from the weights of the first."""
    if rank_and_world()[1] > 1:
        for p in parameters:
            dist.broadcast(p, src=0)


@contextmanager
def helpers(count: int, command: list[str]) -> Iterator[None]:
    """Beside this process, run `count` others of the command in which each finds its number in LOCAL_RANK, from 1.

    Of whatever goes wrong here they do not survive; what goes wrong there ends in an error of the first collective.
    """
    if not count or RANK in os.environ:  # alone, or one of those started here or by a cluster
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {RANK: "0", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= own
    processes = [
        subprocess.Popen([sys.executable, *command], env=os.environ | {RANK: str(rank)}, stdout=subprocess.DEVNULL)
        for rank in range(1, count + 1)
    ]
    try:
        yield
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.kill()
            process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        for name in own:
            os.environ.pop(name, None)
