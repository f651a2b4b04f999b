"""How long a full-ranking evaluation takes: Diginetica's 60,858 prefixes against 43,097 items, on at most two cores.

    python benchmarks/ranking_speed.py DATA            # about a minute, most of it preparation
    python benchmarks/ranking_speed.py DATA --quick    # the first 5,000 prefixes

DATA holds train.parquet (session, pos, item), test_prefix.parquet and test_target.parquet of the papers' split. The
model is SASRec (two layers, d = 100) as it is before training, which takes no less time than after it. Measured is
`judge`, as `shopkeeper evaluate` calls it: collation, encoder, all scores, exact ranks. The last line is one JSON
object with `seconds`, and `peak_memory_gb`: the largest resident set of the process, with everything that it imports.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from diginetica_paper import FIRST_DAY, TRAIN_DAYS, Prefixes, test_prefixes, training_events

if TYPE_CHECKING:
    from shopkeeper.data.examples import Examples
    from shopkeeper.data.prepared import Prepared
    from shopkeeper.data.targets import Ragged
    from shopkeeper.models.contract import FitData, SessionModel

TASK = "next_any"
CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the Diginetica paper split")
    parser.add_argument("--quick", action="store_true", help="a first look, at fewer prefixes")
    arguments = parser.parse_args()
    prefixes = test_prefixes(arguments.data)
    if arguments.quick:
        prefixes = Prefixes(prefixes.offsets[:5001], prefixes.item, prefixes.target[:5000])
    with tempfile.TemporaryDirectory() as name:
        prepare(arguments.data, prefixes, Path(name))
        figures = measure(Path(name) / "prepared", prefixes)
    print(json.dumps({"benchmark": "ranking_speed", "figures": figures}))


def prepare(data: Path, prefixes: Prefixes, folder: Path) -> None:
    """A dataset of the training sessions and, a week later, of a session for each prefix: prefix i is session p<i>."""
    number = pd.Series(range(len(prefixes.target))).repeat(prefixes.offsets[1:] - prefixes.offsets[:-1])
    place = number.groupby(number).cumcount()
    after = pd.DataFrame(
        {
            "session_id": ("p" + number.astype(str)).to_numpy(),
            "timestamp": (FIRST_DAY + pd.Timedelta(days=TRAIN_DAYS + 7) + pd.to_timedelta(place, unit="s")).array,
            "event": "view_item",
            "item_id": prefixes.item[: prefixes.offsets[-1]].astype(str),
        }
    )
    pd.concat([training_events(data), after]).to_parquet(folder / "events.parquet")
    command = [sys.executable, "-m", "shopkeeper", "prepare", "data=events", f"data.events={folder}/events.parquet"]
    command += ["data.split.val_share=null", "data.split.test_share=null"]
    command += ["data.split.val_days=3", "data.split.test_days=3"]  # the prefixes, a week after all of train
    subprocess.run([*command, f"output={folder}/prepared"], check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path, prefixes: Prefixes) -> dict[str, float]:
    """Seconds and memory of ranking the target of every prefix among all items."""
    import torch

    from shopkeeper.data.batches import Vocabulary
    from shopkeeper.data.prepared import Prepared
    from shopkeeper.data.windows import train_window
    from shopkeeper.evaluate.judge import judge
    from shopkeeper.models.contract import FitData

    torch.set_num_threads(min(CORES, os.cpu_count() or 1))
    prepared = Prepared.read(folder)
    vocabulary = Vocabulary.of(prepared, refit=True)
    examples, targets = to_examples(prepared, prefixes)
    model = fresh_model(FitData(prepared, train_window(prepared, refit=True), vocabulary))
    began = time.perf_counter()
    ranks = judge(model, prepared, examples, targets, task=TASK)
    seconds = time.perf_counter() - began
    print(f"{len(ranks):,} targets among {vocabulary.num_items:,} items: {seconds:.1f} s", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": round(seconds, 2), "peak_memory_gb": round(peak, 3)}


def to_examples(prepared: "Prepared", prefixes: Prefixes) -> "tuple[Examples, Ragged]":
    """Each prefix as a visitor whose steps are all visible, and its target."""
    import numpy as np

    from shopkeeper.data.examples import Examples
    from shopkeeper.data.targets import Ragged

    keys = pd.Index(prepared.visitors_frame()["visitor_key"])
    visitor = keys.get_indexer([f"s:p{i}" for i in range(len(prefixes.target))])
    first, last = (np.asarray(prepared.visitors["row_offsets"])[visitor + shift] for shift in (0, 1))
    code = pd.Index(prepared.item_ids()).get_indexer(prefixes.target.astype(str)) + 1
    code[code == 0] = len(prepared.item_ids()) + 1  # in no session: a miss
    examples = Examples(visitor=visitor, k=last - first, first=first, last=last, limit=last)
    return examples, Ragged(np.arange(len(code) + 1), code)


def fresh_model(data: "FitData") -> "SessionModel":
    import torch
    import yaml

    from shopkeeper.models.checkpoint import build_model

    torch.manual_seed(0)
    file = Path(__file__).parents[1] / "configs" / "model" / "sasrec.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8")) | {"embed_dim": 100}
    model = build_model(values, vocabulary=data.vocabulary, tasks=[TASK], max_len=50, facts={"purchase_code": -1})
    model.fit(data)
    return model


if __name__ == "__main__":
    main()
