"""What a training that cannot go on tells: what to change, and which checkpoint is good."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.train.callbacks import LAST


@contextmanager
def told_what_to_change(config: TrainConfig, folder: Path) -> Iterator[None]:
    """Turn memory that ran out and a loss that is no number into a line that names keys and the last checkpoint.

    Raises:
        UserError: that line; anything else passes as it is.
    """
    try:
        yield
    except FloatingPointError as error:
        settings = config.optimizer
        raise UserError(
            f"{error}: lower optimizer.lr (now {settings.lr:g}) or optimizer.clip_norm (now {settings.clip_norm:g}); "
            f"{last_good(folder)}"
        ) from error
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is the latter
        if not is_out_of_memory(error):
            raise
        size = config.model.get("embed_dim")
        raise UserError(
            f"out of memory: lower batches.tokens (now {config.batches.tokens}), loss.num_negatives (now "
            f"{config.loss.num_negatives}) or embed_dim{f' (now {size})' if size else ''}; {last_good(folder)}"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """The CPU's allocator raises a plain RuntimeError and says so in words."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def last_good(folder: Path) -> str:
    last = folder / LAST
    if not last.exists():
        return "no epoch was finished, so there is no checkpoint"
    epoch = torch.load(last, weights_only=False)["epoch"] + 1
    return f"the last good checkpoint, after epoch {epoch}, is {last}"
