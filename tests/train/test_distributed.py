from collections.abc import Callable

import pytest

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.train.distributed import summed_gradients
from shopkeeper.train.fit import train

Config = Callable[..., TrainConfig]
WITHOUT_CHANCE = ("model.dropout=0", "model.context_dropout=0", "batches.tokens=128")
TWO = ("trainer.devices=2", "+trainer.strategy=ddp")


def test_another_strategy_is_refused() -> None:
    with pytest.raises(UserError, match=r"trainer.strategy=fsdp: several devices train with ddp alone"):
        summed_gradients("fsdp")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["loss.num_negatives=100", "loss.num_negatives=8"])
def test_two_processes_train_and_evaluate_to_the_metrics_of_one(
    config: Config, silent: Callable[[str], None], loss: str
) -> None:
    """With the full softmax, and on a sample; dropout, which each process draws for its share, is left out."""
    alone = train(config(*WITHOUT_CHANCE, loss), say=silent)
    together = train(config(*WITHOUT_CHANCE, loss, *TWO), say=silent)

    for curve in ("train/loss_purchase", "train/loss_next", "val_epoch/mean", "val_epoch/primary"):
        assert together.curve(curve) == pytest.approx(alone.curve(curve), rel=2e-3)
    assert together.metrics["val/primary"] == pytest.approx(alone.metrics["val/primary"], rel=2e-3)
