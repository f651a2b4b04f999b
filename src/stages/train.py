"""shopkeeper train: fit one model, resume a run, or refit a finished one on everything."""

from shopkeeper.config import TrainConfig
from shopkeeper.train.fit import train

SCHEMA = TrainConfig


def run(config: TrainConfig) -> None:
    finished = train(config)
    waiting = len(finished.pending())
    if waiting:
        print(f"{waiting} records wait for {config.tracking.uri}; once it answers, deliver them with: shopkeeper sync")
    print(f"run: {finished.run_id}")
