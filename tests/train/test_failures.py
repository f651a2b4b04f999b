from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.train.failures import last_good, told_what_to_change
from shopkeeper.train.fit import train

Config = Callable[..., TrainConfig]


def test_a_model_too_large_for_memory_says_what_to_lower(config: Config, silent: Callable[[str], None]) -> None:
    message = (
        r"out of memory: lower batches.tokens \(now 256\), .*embed_dim \(now 1000000000000\); no epoch was finished"
    )

    with pytest.raises(UserError, match=message):
        train(config("model.embed_dim=1000000000000"), say=silent)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")])
def test_every_kind_of_full_memory_is_known(config: Config, tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UserError, match="out of memory"), told_what_to_change(config(), tmp_path):
        raise error


def test_other_errors_pass_as_they_are(config: Config, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), told_what_to_change(config(), tmp_path):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_the_last_checkpoint_is_named_with_its_epoch(tmp_path: Path) -> None:
    torch.save({"epoch": 2}, tmp_path / "last.ckpt")

    assert last_good(tmp_path) == f"the last good checkpoint, after epoch 3, is {tmp_path / 'last.ckpt'}"
