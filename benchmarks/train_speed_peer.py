"""RecTools' SASRec on the log of train_speed.py; runs in RecTools' environment, which knows nothing of shopkeeper.

Its last line is a JSON object: median seconds of an epoch, the best P@20 on validation, the largest resident set.
"""

import argparse
import json
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

DIM, LAYERS, HEADS, NEGATIVES, CUTOFF = 100, 2, 2, 256, 20
EPOCHS_TIMED, LONGEST_PREFIX = 3, 19
SECONDS: list[float] = []
"""Of every epoch; RecTools copies its trainer, so the list cannot be the callback's."""


class Timer(Callback):
    def on_train_epoch_start(self, *_: object) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        SECONDS.append(time.perf_counter() - self.began)


def trainer() -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(max_epochs=1, min_epochs=1, accelerator="cpu", callbacks=[Timer()], **quiet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="0 trains only the epochs that are timed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, val = (read(arguments.folder / f"{name}.csv") for name in ("train", "val"))
    dataset = Dataset.construct(interactions(train, train["session_id"]))
    model = SASRecModel(
        n_blocks=LAYERS,
        n_heads=HEADS,
        n_factors=DIM,
        session_max_len=int(np.ceil(train.groupby("session_id").size().quantile(0.99))),
        loss="sampled_softmax",
        n_negatives=NEGATIVES,
        get_trainer_func=trainer,
    )
    model.fit(dataset)
    best, epochs = precision(model, train, val), 1
    while epochs < EPOCHS_TIMED or sum(SECONDS) < arguments.minutes * 60:
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)
        epochs += 1
        if arguments.minutes or epochs == EPOCHS_TIMED:
            best = max(best, precision(model, train, val))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"epoch_s": float(np.median(SECONDS[:EPOCHS_TIMED])), "gb": peak, "p20": best, "epochs": epochs}))


def read(file: Path) -> pd.DataFrame:
    log = pd.read_csv(file, dtype=str)
    moment = pd.to_datetime(log["timestamp"], format="ISO8601", utc=True)
    return log.assign(timestamp=moment.dt.tz_localize(None))  # RecTools takes no time zone


def interactions(log: pd.DataFrame, user: pd.Series) -> pd.DataFrame:
    columns = {
        Columns.User: user,
        Columns.Item: log["item_id"],
        Columns.Weight: 1.0,
        Columns.Datetime: log["timestamp"],
    }
    return pd.DataFrame(columns)


def precision(model: SASRecModel, train: pd.DataFrame, val: pd.DataFrame) -> float:
    """Share of the prefixes of validation sessions whose next item is among the 20 best; an unknown one never is."""
    place = val.groupby("session_id").cumcount().to_numpy()
    asked = pd.DataFrame({"session_id": val["session_id"], "pos": place, "target": val["item_id"]})
    asked = asked[(asked["pos"] > 0) & (asked["pos"] <= LONGEST_PREFIX)]
    asked["user"] = asked["session_id"] + "/" + asked["pos"].astype(str)
    rows = asked.merge(val.assign(place=place), on="session_id")
    rows = rows[rows["place"] < rows["pos"]]
    rows = rows[rows["item_id"].isin(train["item_id"].unique())]  # what it never saw it cannot read
    known = Dataset.construct(interactions(rows, rows["user"]))
    found = model.recommend(
        users=rows["user"].unique(), dataset=known, k=CUTOFF, filter_viewed=False, on_unsupported_targets="ignore"
    )
    hit = found.merge(asked, left_on=[Columns.User, Columns.Item], right_on=["user", "target"])
    return len(hit) / len(asked)


if __name__ == "__main__":
    main()
