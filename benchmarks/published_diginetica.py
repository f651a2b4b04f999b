"""The next item on the Diginetica split of the papers (SR-GNN, GCE-GNN, ...), beside what they published.

    python benchmarks/published_diginetica.py DATA            # the best single model and the blend, one seed
    python benchmarks/published_diginetica.py DATA --quick    # a first look at a few of the sessions
    python benchmarks/published_diginetica.py DATA --full     # every model, three seeds where one is drawn

DATA holds train.parquet (session, pos, item), test_prefix.parquet and test_target.parquet of the split. Everything goes
through shopkeeper's own commands: the training sessions are prepared with their last week as validation, a model is
trained, which chooses the number of steps, refitted on all of them, exported, and asked as a service would be for the
20 items that follow each of the 60,858 prefixes of the test week. P@20 is the share of prefixes whose next item is
among them, MRR@20 the mean of one over its rank (0 beyond 20), both in percent. The last line is one JSON object with
`best_single_p20`, `best_single_mrr20`, `blend_p20` and `blend_mrr20` (null where the blend was not asked for).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from diginetica_paper import FIRST_DAY, TRAIN_DAYS, Prefixes, test_prefixes, training_events

PUBLISHED = {
    "GRU4Rec": (29.45, 8.33),
    "NARM": (49.70, 16.17),
    "STAMP": (45.64, 14.32),
    "SR-GNN": (50.73, 17.59),
    "GCE-GNN": (54.22, 19.04),
}
"""P@20 and MRR@20 as the papers and their successors print them for this split."""

BEST, BLEND = "sasrec", "blend"
COUNTED = ("popularity", "item_knn", "vmis_knn")
NEURAL = ("gru4rec", "sasrec", "ligr")
SEEDS = (1, 2, 3)


class Score(NamedTuple):
    """Both in percent."""

    p20: float
    mrr20: float


class Bench(NamedTuple):
    """Where the data and everything made of it lie, and what every training is given."""

    data: Path
    folder: Path
    overrides: tuple[str, ...]
    prefixes: int

    @property
    def store(self) -> list[str]:
        place = self.folder
        uri, artifacts = f"tracking.uri=sqlite:///{place}/runs.db", f"tracking.artifacts={place}/artifacts"
        return [uri, artifacts, f"tracking.runs_dir={place}/runs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the Diginetica paper split")
    parser.add_argument("--quick", action="store_true", help="a first look, in about a minute")
    parser.add_argument("--full", action="store_true", help="every model, three seeds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        few = ("trainer.max_epochs=1", "model.embed_dim=16")
        bench = Bench(arguments.data, Path(name), few if arguments.quick else (), 2_000 if arguments.quick else 100_000)
        prepare(bench, share=0.04 if arguments.quick else 1.0)
        table = {model: run_seeds(bench, model, seeds) for model, seeds in asked(arguments).items()}
    for model, scores in table.items():
        print(f"{model:<12} " + "  ".join(f"{s.p20:5.2f} / {s.mrr20:5.2f}" for s in scores))
    for model, published in PUBLISHED.items():
        print(f"{model:<12} {published[0]:5.2f} / {published[1]:5.2f} (published)")
    print(json.dumps({"benchmark": "published_diginetica", "figures": figures(table)}))


def asked(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """The models to train, each with its seeds; a counted one draws nothing. A model that is not there is left out."""
    seeds = SEEDS if arguments.full else SEEDS[:1]
    counted = dict.fromkeys(COUNTED, SEEDS[:1]) if arguments.full else {}
    neural = dict.fromkeys(NEURAL if arguments.full else (BEST,), seeds)
    both = {} if arguments.quick else {BLEND: seeds}
    there = files("shopkeeper.configs").joinpath("model")
    return {m: s for m, s in (counted | neural | both).items() if there.joinpath(f"{m}.yaml").is_file()}


def figures(table: dict[str, list[Score]]) -> dict[str, float | None]:
    """Means over the seeds."""
    single = max((scores for model, scores in table.items() if model != BLEND), key=lambda s: mean(s)[0] + mean(s)[1])
    best, both = mean(single), mean(table.get(BLEND, []))
    return {"best_single_p20": best[0], "best_single_mrr20": best[1], "blend_p20": both[0], "blend_mrr20": both[1]}


def mean(scores: list[Score]) -> tuple[float, float] | tuple[None, None]:
    if not scores:
        return None, None
    p20, mrr20 = np.mean(scores, axis=0)
    return round(float(p20), 2), round(float(mrr20), 2)


def prepare(bench: Bench, *, share: float) -> None:
    """The latest `share` of the training sessions, their last week for validation."""
    events = training_events(bench.data)
    number = events["session_id"].astype(int)
    events[number >= (1 - share) * number.max()].to_parquet(bench.folder / "events.parquet")
    days = f"val_days={7 if share == 1 else 1.5}"  # a day of its own each, the last one for a test that nobody looks at
    split = [f"data.split.{key}" for key in ("val_share=null", "test_share=null", days, "test_days=0.5")]
    places = [f"data.events={bench.folder}/events.parquet", f"output={bench.folder}/prepared"]
    shopkeeper("prepare", "data=events", *places, *split)


def run_seeds(bench: Bench, model: str, seeds: tuple[int, ...]) -> list[Score]:
    return [judge(bench, make_bundle(bench, model, seed)) for seed in seeds]


def make_bundle(bench: Bench, model: str, seed: int) -> Path:
    """Train by the recipe, refit on all sessions, export."""
    prepared, bundle = f"prepared={bench.folder}/prepared", bench.folder / f"{model}-{seed}"
    drawn = ["experiment=diginetica_paper", f"model={model}", f"seed={seed}", *bench.overrides]
    recipe = [f"model={model}", "task=next_any"] if model in COUNTED else drawn
    quiet = "trainer.enable_progress_bar=false"
    run = shopkeeper("train", prepared, *recipe, quiet, *bench.store).rpartition("run: ")[2].strip()
    shopkeeper("train", prepared, f"refit={run}", *bench.store)
    shopkeeper("export", prepared, f"run={run}", f"output={bundle}", *bench.store)
    return bundle


def judge(bench: Bench, bundle: Path) -> Score:
    """Ask the bundle for the 20 items that follow each prefix."""
    import msgspec

    from shopkeeper_serving.predictor import Predictor
    from shopkeeper_serving.schemas import Event

    predictor, prefixes = Predictor.load(bundle), test_prefixes(bench.data)
    (task,) = predictor.manifest.tasks
    count = min(bench.prefixes, len(prefixes.target))
    chosen = np.linspace(0, len(prefixes.target) - 1, count).astype(int)
    gains = []
    for part in np.array_split(chosen, -(-count // 1000)):
        requests = [msgspec.convert(clicks, list[Event]) for clicks in requests_of(prefixes, part)]
        answers = predictor.predict_many(requests, k=20)
        for answer, target in zip(answers, prefixes.target[part].astype(str), strict=True):
            gains.append(sum(1 / item.rank for item in answer.items[task] if item.item_id == target))
    found = np.array(gains)
    return Score(100 * float((found > 0).mean()), 100 * float(found.mean()))


def requests_of(prefixes: Prefixes, part: np.ndarray) -> Iterator[list[dict[str, object]]]:
    """The clicks of each prefix, a second apart as in training, on a day of the week after it."""
    for number in part:
        day = FIRST_DAY + pd.Timedelta(days=TRAIN_DAYS + 7 * int(number) // len(prefixes.target))
        items = prefixes.item[prefixes.offsets[number] : prefixes.offsets[number + 1]]
        yield [
            {"event": "view_item", "item_id": str(item), "timestamp": int(day.timestamp() + second) * 1000}
            for second, item in enumerate(items)
        ]


def shopkeeper(*arguments: str) -> str:
    print("shopkeeper", *arguments, file=sys.stderr)
    command = [sys.executable, "-m", "shopkeeper", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
