"""How items that train never saw are found: with the content tower, without it, and by popularity in their category.

    python benchmarks/cold_items.py EVENTS            # SASRec with and without content: some minutes
    python benchmarks/cold_items.py EVENTS --quick    # one epoch of a small model, in about a minute

EVENTS is a log of REES46 (events.parquet of its electronics shop). Strangers of the test split are asked after each of
the steps of the protocol for their next item; counted are the targets whose first event is after the train cut. All
three rank the whole catalogue. By popularity in the category come first, in a random order between equals, the items of
the last item's category, a new one as popular as the category's are on average. The last line is one JSON object with
`recall20_content`, `recall20_ids`, `recall20_category`, `targets`, and the `ndcg20_*` of all targets.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shopkeeper.data.examples import Examples
    from shopkeeper.data.prepared import Prepared
    from shopkeeper.data.targets import Ragged

TASK, CUTOFF = "next", 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path, help="a log of REES46")
    parser.add_argument("--quick", action="store_true", help="a first look, in about a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"benchmark": "cold_items", "figures": measure(arguments.events, folder, arguments.quick)}))


def measure(events: Path, folder: str, quick: bool) -> dict[str, float]:
    from shopkeeper.config import ProtocolConfig, configure
    from shopkeeper.data import schema as s
    from shopkeeper.data.examples import judged_examples
    from shopkeeper.data.prepare import prepare
    from shopkeeper.data.settings import PrepareConfig
    from shopkeeper.data.targets import Targets
    from shopkeeper.train.validation import standard_protocol

    prepared = prepare(
        configure("prepare", PrepareConfig, "data=rees46", f"data.events={events}", f"output={folder}/prepared")
    )
    protocol: ProtocolConfig = standard_protocol()
    examples, targets, _ = judged_examples(
        prepared, Targets(prepared), TASK, s.STRANGERS, s.TEST, ks=protocol.ks, at_most=protocol.max_examples
    )
    new = prepared.items_frame()["train_events"].to_numpy() == 0
    cold = new[targets.items - 1]
    few = ["trainer.max_epochs=1", "model.embed_dim=16"] if quick else []
    ranks = {
        "content": trained(prepared, folder, examples, targets, ["model=sasrec_content", "cold_items=true", *few]),
        "ids": trained(prepared, folder, examples, targets, ["model=sasrec", *few]),
        "category": by_category(prepared, examples, targets),
    }
    figures: dict[str, float] = {"targets": int(cold.sum())}
    for name, rank in ranks.items():
        found = rank <= CUTOFF
        figures[f"recall20_{name}"] = round(float(found[cold].mean()), 4)
        figures[f"ndcg20_{name}"] = round(float((found / np.log2(np.minimum(rank, CUTOFF) + 1)).mean()), 4)
    return figures


def trained(
    prepared: "Prepared", folder: str, examples: "Examples", targets: "Ragged", overrides: list[str]
) -> np.ndarray:
    """Rank of every target by a model trained on the prepared data."""
    from shopkeeper.config import TrainConfig, configure
    from shopkeeper.evaluate.judge import judge
    from shopkeeper.models.checkpoint import load_model
    from shopkeeper.train.fit import train
    from shopkeeper.train.tracking import MODEL_FILE

    store = [f"tracking.uri=sqlite:///{folder}/runs.db", f"tracking.artifacts={folder}/artifacts"]
    store += [f"tracking.runs_dir={folder}/runs", "trainer.enable_progress_bar=false", f"task={TASK}"]
    run = train(configure("train", TrainConfig, f"prepared={prepared.path}", *store, *overrides))
    return judge(load_model(run.file(MODEL_FILE)), prepared, examples, targets, task=TASK)


def by_category(prepared: "Prepared", examples: "Examples", targets: "Ragged") -> np.ndarray:
    """Rank of every target by popularity in the category of the last item."""
    from shopkeeper.evaluate.ranks import rank_targets

    items = prepared.items_frame()
    counts, new = items["train_events"].to_numpy(np.float64), items["train_events"].to_numpy() == 0
    category = items["category"].fillna("").to_numpy()
    _, group = np.unique(category, return_inverse=True)
    kinds = int(group.max()) + 1
    usual = np.bincount(group, counts, kinds) / np.bincount(group, minlength=kinds)
    counts = np.where(new, usual[group], counts)
    rng = np.random.default_rng(0)
    moments = examples.moments(prepared)
    last = np.asarray(prepared.rows["item"])[np.maximum(moments.end - 1, 0)]
    ranks = np.empty(len(targets.items), np.int64)
    for begin in range(0, len(examples), 512):
        part = slice(begin, min(begin + 512, len(examples)))
        here = np.where(moments.end[part] > moments.start[part], last[part], 0)
        same = (group[None] == group[np.maximum(here, 1) - 1][:, None]) & (here > 0)[:, None]
        scores = counts[None] + same * counts.sum() + rng.random(same.shape) * 1e-3
        rows = np.arange(len(here))
        scores[rows[here > 0], here[here > 0] - 1] = -np.inf  # the next item differs from the last
        offsets = targets.offsets[part.start : part.stop + 1]
        ranks[offsets[0] : offsets[-1]] = rank_targets(
            scores, offsets - offsets[0], targets.items[offsets[0] : offsets[-1]]
        )
    return ranks


if __name__ == "__main__":
    main()
