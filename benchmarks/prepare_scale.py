"""How preparation scales: a simulated log of up to 50 million events, beside DuckDB alone and the same work in pandas.

    python benchmarks/prepare_scale.py            # 50 million events: about 10 minutes, 12 GB of disk
    python benchmarks/prepare_scale.py --quick    # 1 million: under a minute

Each measured command is a process of its own; memory is its largest resident set. The last line is one JSON object:

- `peak_memory_gb`: of the preparation of the largest log;
- `per_event_growth_1m_to_max`: seconds per event of the largest log over those of one million (quick: of 200,000);
- `times_duckdb_scan_sort`: seconds of the largest log over those of DuckDB reading the same files and writing them
  sorted by user and time, with the same threads and memory limit;
- `speed_over_pandas`, `memory_over_pandas`: pandas' seconds over ours, and our memory over that of pandas, at 5 million
  events (quick: 1 million), for the same work: check values, count repeats, sort, cut sessions at 30 minutes of
  inactivity, number orders, split, give phases, number ids with those of train first, write arrays, hash them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

EVENTS_PER_VISITOR = 6.9
MEMORY_LIMIT = "3GB"

DUCKDB = """
import duckdb, sys
log, out, threads, limit = sys.argv[1:]
settings = {"threads": threads, "memory_limit": limit, "temp_directory": out + ".tmp"}
con = duckdb.connect(out + ".duckdb", config=settings)
con.sql(f"copy (select * from read_parquet('{log}/*.parquet') order by user_id, timestamp) to '{out}' (format parquet)")
"""

PANDAS = """
import hashlib, sys
from pathlib import Path
import numpy as np, pandas as pd
log, out = sys.argv[1], Path(sys.argv[2])
out.mkdir()
events = pd.read_parquet(log)
good = events["timestamp"].notna() & events["event"].notna() & events["user_id"].notna()
good &= events["price"].isna() | (np.isfinite(events["price"]) & (events["price"] >= 0))
good &= events["quantity"].isna() | np.isfinite(events["quantity"])
dropped = int((~good).sum())
events = events[good].sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)
repeated = int(events.duplicated().sum())
visitor, visitors = pd.factorize(events["user_id"])
pause = events["timestamp"].diff()
session = np.cumsum((np.diff(visitor, prepend=-1) != 0) | (pause >= pd.Timedelta(minutes=30)).to_numpy()) - 1
cut = events["timestamp"].quantile([0.8, 0.9], interpolation="lower")
start = events["timestamp"].groupby(session).transform("min")
split = np.select([start < cut.iloc[0], start < cut.iloc[1]], [0, 1], 2).astype("int8")
train = (events["timestamp"] < cut.iloc[0]).to_numpy()
bought = (events["event"] == "purchase").to_numpy()
order = pd.factorize(events["order_id"].where(bought))[0]
earlier = pd.Series(session).groupby(session).cumcount().to_numpy()
first = pd.Series(np.where(bought, session, len(events))).groupby(visitor).transform("min").to_numpy()
phase = np.select(
    [
        events["event"].isin(["begin_checkout", "purchase"]),
        events["event"].isin(["delivery", "refund", "review"]),
        events["event"].isin(["email_open"]),
        session > first,
        events["event"].isin(["add_to_cart", "search"]),
        earlier >= 3,
    ],
    [3, 4, 5, 5, 2, 2],
    1,
).astype("int8")
arrays = {"split": split, "session": session.astype("int32"), "order": order.astype("int32"), "phase": phase}
arrays |= {"visitor": visitor.astype("int32"), "time": events["timestamp"].astype("int64").to_numpy()}
for name in ("item_id", "event", "channel", "device", "country"):
    counts = events[name].groupby(events[name]).size().to_frame("events")
    counts["train"] = events.loc[train, name].groupby(events.loc[train, name]).size().reindex(counts.index).fillna(0)
    ranked = counts.assign(known=counts["train"] > 0).sort_values(["known", name], ascending=[False, True])
    codes = pd.Series(np.arange(1, len(ranked) + 1), index=ranked.index)
    arrays[name] = events[name].map(codes).fillna(0).astype("int32").to_numpy()
    ranked.reset_index().to_parquet(out / f"{name}.parquet")
for name in ("price", "quantity"):
    arrays[name] = events[name].round(6).to_numpy("float64")
entries = events.groupby(session).first()[["user_id", "timestamp", "channel", "device", "country"]]
entries.to_parquet(out / "sessions.parquet")
pd.Series(visitors).to_frame("user_id").to_parquet(out / "visitors.parquet")
digest = hashlib.sha256()
for name, array in sorted(arrays.items()):
    np.save(out / f"{name}.npy", array)
    digest.update(array.tobytes())
print(dropped, repeated, digest.hexdigest())
"""


class Run(NamedTuple):
    seconds: float
    gigabytes: float


def measure(command: list[str]) -> Run:
    """Wall time and largest resident set of a command.

    Raises:
        SystemExit: when it fails.
    """
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command[:5])} failed: {said.decode()[-2000:]}")
    return Run(time.monotonic() - began, usage.ru_maxrss / 1e6)


def simulated(folder: Path, events: int) -> tuple[Path, int]:
    """A log of about so many events, and how many it has."""
    import pyarrow.dataset as ds

    from shopkeeper.data.settings import SimulationConfig
    from shopkeeper.data.simulator import simulate

    place = folder / f"log-{events}"
    visitors = round(events / EVENTS_PER_VISITOR)
    config = SimulationConfig(
        visitors=visitors, days=90, personas=6, categories=50, items=20_000, known_share=0.6, seed=1
    )
    simulate(config, place)
    return place / "events", ds.dataset(place / "events").count_rows()


def prepare(log: Path, folder: Path) -> Run:
    output = folder / "prepared"
    shutil.rmtree(output, ignore_errors=True)
    settings = [f"memory_limit={MEMORY_LIMIT}", "data.context=[channel,device,country]"]
    command = [sys.executable, "-m", "shopkeeper", "prepare", "data=events", f"data.events={log}", f"output={output}"]
    return measure([*command, *settings])


def sort_in_duckdb(log: Path, folder: Path) -> Run:
    out = folder / "sorted.parquet"
    for leftover in folder.glob("sorted.parquet*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return measure([sys.executable, "-c", DUCKDB, str(log), str(out), str(os.cpu_count() or 1), MEMORY_LIMIT])


def prepare_in_pandas(log: Path, folder: Path) -> Run:
    shutil.rmtree(folder / "pandas", ignore_errors=True)
    return measure([sys.executable, "-c", PANDAS, str(log), str(folder / "pandas")])


def tell(name: str, events: int, run: Run) -> None:
    speed = events / run.seconds / 1e6
    print(f"{name:<28}{events:>12,} events{run.seconds:>9.1f} s{speed:>8.2f} M/s{run.gigabytes:>8.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 million events, under a minute")
    parser.add_argument("--events", type=int, help="of the largest log")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    most = arguments.events or (1_000_000 if arguments.quick else 50_000_000)
    few, middle = (
        min(most, 200_000 if arguments.quick else 1_000_000),
        min(most, 1_000_000 if arguments.quick else 5_000_000),
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        logs = {size: simulated(folder, size) for size in sorted({few, middle, most})}
        rounds = 1 if arguments.quick else 3
        small = [prepare(logs[few][0], folder) for _ in range(rounds)]
        ours = Run(statistics.median(run.seconds for run in small), max(run.gigabytes for run in small))
        tell("prepare", logs[few][1], ours)
        pandas, beside = prepare_in_pandas(logs[middle][0], folder), prepare(logs[middle][0], folder)
        tell("pandas", logs[middle][1], pandas)
        tell("prepare", logs[middle][1], beside)
        largest, duckdb = prepare(logs[most][0], folder), sort_in_duckdb(logs[most][0], folder)
        tell("prepare", logs[most][1], largest)
        tell("duckdb scan and sort", logs[most][1], duckdb)
        figures = {
            "events": logs[most][1],
            "peak_memory_gb": round(largest.gigabytes, 2),
            "per_event_growth_1m_to_max": round((largest.seconds / logs[most][1]) / (ours.seconds / logs[few][1]), 3),
            "times_duckdb_scan_sort": round(largest.seconds / duckdb.seconds, 2),
            "speed_over_pandas": round(pandas.seconds / beside.seconds, 2),
            "memory_over_pandas": round(beside.gigabytes / pandas.gigabytes, 3),
        }
    print(json.dumps({"benchmark": "prepare_scale", "figures": figures}))


if __name__ == "__main__":
    main()
