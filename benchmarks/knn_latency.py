"""How long VMIS-kNN takes for one session, as a service would ask it: the Diginetica index, one request at a time.

    python benchmarks/knn_latency.py DATA            # 10,000 prefixes of the test week: about two minutes
    python benchmarks/knn_latency.py DATA --quick    # 1,000 prefixes on an index of the last tenth of the sessions

DATA holds train.parquet (session, pos, item), test_prefix.parquet and test_target.parquet of the papers' split. The
model is prepared, trained and exported by shopkeeper's own commands; measured is `Predictor.predict` on one thread:
raw events in, 20 items out. The last line is one JSON object with `p50_ms`, `p99_ms`, `sessions` and `items`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from diginetica_paper import test_prefixes, training_events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the Diginetica paper split")
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bundle, sessions, items = make_bundle(arguments.data, Path(name), share=0.1 if arguments.quick else 1.0)
        milliseconds = measure(bundle, arguments.data, count=1_000 if arguments.quick else 10_000)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    figures = {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "sessions": sessions, "items": items}
    print(json.dumps({"benchmark": "knn_latency", "figures": figures}))


def make_bundle(data: Path, folder: Path, *, share: float) -> tuple[Path, int, int]:
    """A VMIS-kNN bundle of the last `share` of the training sessions, refitted on all of them; and its sizes."""
    events = training_events(data)
    number = events["session_id"].astype(int)
    events = events[number >= (1 - share) * number.max()]
    events.to_parquet(folder / "events.parquet")
    prepared, bundle = folder / "prepared", folder / "bundle"
    store = [f"tracking.uri=sqlite:///{folder}/runs.db", f"tracking.artifacts={folder}/artifacts"]
    store += [f"tracking.runs_dir={folder}/runs"]
    shopkeeper("prepare", "data=events", f"data.events={folder}/events.parquet", f"output={prepared}")
    train = ["train", f"prepared={prepared}", "task=next_any", "model=vmis_knn", *store]
    run = shopkeeper(*train).rpartition("run: ")[2].strip()
    shopkeeper("train", f"prepared={prepared}", f"refit={run}", *store)
    shopkeeper("export", f"prepared={prepared}", f"run={run}", f"output={bundle}", *store)
    return bundle, events["session_id"].nunique(), events["item_id"].nunique()


def shopkeeper(*arguments: str) -> str:
    print("shopkeeper", *arguments, file=sys.stderr)
    command = [sys.executable, "-m", "shopkeeper", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(bundle: Path, data: Path, *, count: int) -> list[float]:
    """Milliseconds of each of `count` requests, evenly over the test prefixes."""
    import msgspec

    from shopkeeper_serving.predictor import Predictor
    from shopkeeper_serving.schemas import Event

    predictor, prefixes = Predictor.load(bundle), test_prefixes(data)
    chosen = np.linspace(0, len(prefixes.target) - 1, count).astype(int)
    requests = [
        msgspec.convert(
            [{"event": "view_item", "item_id": str(item)} for item in prefixes.item[begin:end]], list[Event]
        )
        for begin, end in zip(prefixes.offsets[chosen], prefixes.offsets[chosen + 1], strict=True)
    ]
    predictor.predict_many(requests[:50], k=20)  # the first ones read the tables from disk
    taken = []
    for events in requests:
        began = time.perf_counter()
        predictor.predict(events, k=20)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


if __name__ == "__main__":
    main()
