"""shopkeeper sync: hand the tracking server what runs kept here while it was away."""

from shopkeeper.config import UserError
from shopkeeper.train.settings import SyncConfig
from shopkeeper.train.tracking import Store

SCHEMA = SyncConfig


def run(config: SyncConfig) -> None:
    store = Store(config.tracking)
    waiting = store.waiting()
    delivered, left = 0, 0
    for run in waiting:
        try:
            store.get(run.run_id)
        except UserError as error:
            print(f"left alone: {error}")
            continue
        sent = run.deliver()
        delivered, left = delivered + sent, left + len(run.pending())
        print(f"run {run.run_id}: {sent} records delivered")
    if left:
        raise UserError(f"{config.tracking.uri} went away again: {left} records still wait; give the command once more")
    print(f"sync: {delivered} records of {len(waiting)} runs")
