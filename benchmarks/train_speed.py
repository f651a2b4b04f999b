"""Training speed beside RecTools' SASRec: the same Diginetica sessions, sampled softmax, d = 100, two layers.

    python benchmarks/train_speed.py DATA            # 30,000 sessions; RecTools trains for 20 minutes: about 40 in all
    python benchmarks/train_speed.py DATA --quick    # 3,000 sessions, no time to quality; the peer if it is set up

DATA holds train.parquet (session, pos, item) of the papers' split, whose latest sessions are taken: for training, and
after them a tenth as many for validation, every prefix of which is judged: P@20, the share whose next item is among
the 20 best. RecTools 0.19 runs in an environment of its own, which the script sets up in `--peer` (1 GB). Its padding
covers 99% of the sessions. An epoch's time is the median of three, without validation; memory is the process's largest
resident set. Time to quality: RecTools trains for 20 minutes, and ours is the wall time of the shortest whole
`shopkeeper train`, start and validation included, of 1, 2, 4, ... epochs that reaches its best P@20. The share of the
matmul peak counts the products of the encoder, the heads and the negatives, both ways, against a square one of 2,048.

The last line is one JSON object with `epoch_speed_over_rectools`, `memory_over_rectools`,
`time_to_quality_over_rectools` and `share_of_matmul_peak`; null where it was not measured.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SESSIONS, QUICK_SESSIONS = 30_000, 3_000
DIM, LAYERS, HEADS, NEGATIVES, CUTOFF = 100, 2, 2, 2048, 20
EPOCHS_TIMED, MOST_EPOCHS, PEER_MINUTES = 4, 32, 20
LONGEST_PREFIX = 19
PEER = Path.home() / ".cache/shopkeeper-benchmarks/rectools-0.19"
PEER_SCRIPT = Path(__file__).with_name("train_speed_peer.py")
START = pd.Timestamp("2016-01-01T00:00:00Z")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the Diginetica paper split")
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--peer", type=Path, default=PEER, help="folder of RecTools' environment")
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.epochs:  # the process that is measured: `data` is the folder of the log
        print(json.dumps(train_ours(arguments.data, arguments.epochs)))
        return
    if not arguments.quick:
        set_up(arguments.peer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions = write_log(arguments.data, folder, QUICK_SESSIONS if arguments.quick else SESSIONS)
        ours = run_ours(folder, EPOCHS_TIMED)
        tell("shopkeeper", ours)
        figures: dict[str, float | None] = {
            "epoch_speed_over_rectools": None,
            "memory_over_rectools": None,
            "time_to_quality_over_rectools": None,
            "share_of_matmul_peak": round(operations(sessions) / ours["epoch_s"] / matmul_peak(), 3),
        }
        if python_of(arguments.peer).exists():
            peer = run_peer(arguments.peer, folder, 0 if arguments.quick else PEER_MINUTES)
            tell("RecTools", peer)
            figures["epoch_speed_over_rectools"] = round(peer["epoch_s"] / ours["epoch_s"], 2)
            figures["memory_over_rectools"] = round(ours["gb"] / peer["gb"], 3)
            if not arguments.quick:
                figures["time_to_quality_over_rectools"] = time_to_quality(folder, peer["p20"])
        else:
            print(f"RecTools is not measured: {arguments.peer} is not set up (a run without --quick does that)")
    print(json.dumps({"benchmark": "train_speed", "figures": figures}))


def tell(name: str, measured: dict[str, Any]) -> None:
    print(f"{name:<10} {measured['epoch_s']:.2f} s an epoch, {measured['gb']:.2f} GB, P@20 {measured['p20']:.4f}")


def set_up(folder: Path) -> None:
    """RecTools with its own numpy and pandas; torch first, as plain pip finds it."""
    if python_of(folder).exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for wanted in ("torch==2.13.0", "rectools[torch]==0.19.0"):
        subprocess.run([str(python_of(folder)), "-m", "pip", "install", "--quiet", wanted], check=True)


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def write_log(data: Path, folder: Path, count: int) -> pd.DataFrame:
    """The latest sessions, a minute apart, as a log for both; returns those to train on.

    A tenth as many come after them for validation, and once more for the test split, which nobody opens.
    """
    clicks = pd.read_parquet(data / "train.parquet").sort_values(["session", "pos"], kind="stable")
    total = count + 2 * (count // 10)
    last = np.unique(clicks["session"])[-total:]
    clicks = clicks[clicks["session"] >= last[0]]
    number = np.searchsorted(last, clicks["session"])
    log = pd.DataFrame(
        {
            "session_id": number.astype(str),
            "timestamp": START + pd.to_timedelta(number * 60_000 + clicks["pos"].to_numpy(), unit="ms"),
            "event": "view_item",
            "item_id": clicks["item"].astype(str),
        }
    )
    log.to_parquet(folder / "events.parquet")
    log[number < count].to_csv(folder / "train.csv", index=False)  # the peer's environment reads no Parquet
    log[(number >= count) & (number < count + count // 10)].to_csv(folder / "val.csv", index=False)
    share = (count // 10) / total
    shares = [f"data.split.val_share={share}", f"data.split.test_share={share}"]
    command = ["prepare", "data=events", f"data.events={folder}/events.parquet", f"output={folder}/prepared", *shares]
    subprocess.run([sys.executable, "-m", "shopkeeper", *command], check=True, stdout=sys.stderr)
    return log[number < count]


def run_ours(folder: Path, epochs: int) -> dict[str, Any]:
    began = time.perf_counter()
    command = [sys.executable, __file__, str(folder), f"--epochs={epochs}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured | {"wall_s": time.perf_counter() - began}


def train_ours(folder: Path, epochs: int) -> dict[str, Any]:
    """Train in this process: seconds of an epoch, P@20 on validation, the largest resident set."""
    from shopkeeper.config import TrainConfig, configure
    from shopkeeper.data import schema as s
    from shopkeeper.data.examples import stranger_examples, with_targets
    from shopkeeper.data.prepared import Prepared
    from shopkeeper.data.targets import Targets
    from shopkeeper.evaluate.judge import judge
    from shopkeeper.evaluate.metrics import per_example
    from shopkeeper.models.checkpoint import load_model
    from shopkeeper.train.fit import train
    from shopkeeper.train.tracking import MODEL_FILE

    overrides = [f"prepared={folder}/prepared", "task=next_any", "task.outcomes=none"]
    overrides += [f"loss.num_negatives={NEGATIVES}"]
    overrides += [f"model.embed_dim={DIM}", f"model.num_layers={LAYERS}", f"model.num_heads={HEADS}"]
    overrides += [f"tracking.uri=sqlite:///{folder}/runs.db", f"tracking.artifacts={folder}/artifacts"]
    overrides += [f"tracking.runs_dir={folder}/runs", f"trainer.max_epochs={epochs}"]
    overrides += ["trainer.enable_progress_bar=false", f"early_stopping.patience={epochs}"]
    run = train(configure("train", TrainConfig, *overrides), say=lambda text: None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    prepared, model = Prepared.read(folder / "prepared"), load_model(run.file(MODEL_FILE))
    moments = stranger_examples(prepared, s.VAL, list(range(1, LONGEST_PREFIX + 1)))
    wanted = Targets(prepared).of(s.TASK_NEXT_ANY, moments.moments(prepared))
    examples, targets = with_targets(moments, wanted)
    ranks = judge(model, prepared, examples, targets, task=s.TASK_NEXT_ANY)
    hits = per_example(ranks, targets.offsets, CUTOFF)[f"recall@{CUTOFF}"]
    seconds = run.curve("train/seconds")
    return {"epoch_s": float(np.median(seconds[-3:])), "gb": peak, "p20": float(hits.mean()), "prefixes": len(hits)}


def run_peer(peer: Path, folder: Path, minutes: int) -> dict[str, Any]:
    """What RecTools' process tells in its last line."""
    command = [str(python_of(peer)), str(PEER_SCRIPT), str(folder), f"--minutes={minutes}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def time_to_quality(folder: Path, wanted: float) -> float | None:
    epochs = 1
    while epochs <= MOST_EPOCHS:
        ours = run_ours(folder, epochs)
        print(f"shopkeeper {epochs} epochs: P@20 {ours['p20']:.4f} after {ours['wall_s']:.1f} s; wanted {wanted:.4f}")
        if ours["p20"] >= wanted:
            return round(PEER_MINUTES * 60 / ours["wall_s"], 1)
        epochs *= 2
    return None


def operations(sessions: pd.DataFrame) -> float:
    """Floating-point operations of the matrix products of an epoch: two per weight and token, three times both ways."""
    targets, tokens = len(sessions), len(sessions) + sessions["session_id"].nunique()
    return 6.0 * (tokens * (LAYERS * 12 + 2) * DIM**2 + targets * NEGATIVES * DIM)


def matmul_peak() -> float:
    """Operations a second of a product of two square matrices, the best of ten."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = np.inf
    for _ in range(10):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return float(2 * 2048**3 / best)


if __name__ == "__main__":
    main()
