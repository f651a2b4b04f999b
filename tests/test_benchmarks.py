import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_last_line_of_prepare_scale_tells_its_figures(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "prepare_scale.py"),
        "--quick",
        "--events=20000",
        f"--folder={tmp_path}",
    ]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "prepare_scale"
    assert set(told["figures"]) == {
        "events",
        "peak_memory_gb",
        "per_event_growth_1m_to_max",
        "times_duckdb_scan_sort",
        "speed_over_pandas",
        "memory_over_pandas",
    }
    assert abs(told["figures"]["events"] / 20000 - 1) < 0.1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_last_line_of_catalogue_scaling_tells_its_figures() -> None:
    command = [sys.executable, str(BENCHMARKS / "catalogue_scaling.py"), "--quick"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "catalogue_scaling"
    assert set(told["figures"]) == {"step_time_1m_over_10k", "peak_memory_gb_1m", "beyond_table_gb_1m"}
    assert told["figures"]["peak_memory_gb_1m"] > 0.8  # the table and its optimiser's state


@pytest.fixture
def paper_split(tmp_path: Path) -> Path:
    """Made-up files of the form of the Diginetica split of the papers."""
    sessions = pd.DataFrame({"session": np.repeat(np.arange(400), 3), "pos": np.tile([0, 1, 2], 400)})
    sessions["item"] = (sessions["session"] * 7 + sessions["pos"]) % 40 + 1
    sessions.to_parquet(tmp_path / "train.parquet")
    sessions[sessions["pos"] < 2].to_parquet(tmp_path / "test_prefix.parquet")
    pd.DataFrame({"target": np.arange(400) % 40 + 1}).to_parquet(tmp_path / "test_target.parquet")
    return tmp_path


@pytest.mark.slow
def test_the_last_line_of_knn_latency_tells_its_figures(paper_split: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "knn_latency.py"), str(paper_split), "--quick"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "knn_latency"
    assert set(told["figures"]) == {"p50_ms", "p99_ms", "sessions", "items"}
    assert 0 < told["figures"]["p50_ms"] <= told["figures"]["p99_ms"]


@pytest.mark.slow
def test_the_last_line_of_train_speed_tells_its_figures(tmp_path: Path) -> None:
    """Without the peer, which only a run without --quick sets up."""
    sessions = pd.DataFrame({"session": np.repeat(np.arange(3600), 3), "pos": np.tile([0, 1, 2], 3600)})
    sessions["item"] = (sessions["session"] * 7 + sessions["pos"]) % 40 + 1
    sessions.to_parquet(tmp_path / "train.parquet")
    command = [sys.executable, str(BENCHMARKS / "train_speed.py"), str(tmp_path), "--quick"]

    done = subprocess.run([*command, f"--peer={tmp_path / 'none'}"], check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "train_speed"
    assert set(told["figures"]) == {
        "epoch_speed_over_rectools",
        "memory_over_rectools",
        "time_to_quality_over_rectools",
        "share_of_matmul_peak",
    }
    assert told["figures"]["epoch_speed_over_rectools"] is None
    assert 0 < told["figures"]["share_of_matmul_peak"] < 1
    assert "RecTools is not measured" in done.stdout


@pytest.mark.slow
def test_the_last_line_of_ranking_speed_tells_its_figures(paper_split: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "ranking_speed.py"), str(paper_split), "--quick"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "ranking_speed"
    assert set(told["figures"]) == {"seconds", "peak_memory_gb"}
    assert told["figures"]["seconds"] > 0


@pytest.mark.slow
def test_the_last_line_of_published_diginetica_tells_its_figures(tmp_path: Path) -> None:
    sessions = pd.DataFrame({"session": np.repeat(np.arange(8000), 3), "pos": np.tile([0, 1, 2], 8000)})
    sessions["item"] = (sessions["session"] * 7 + sessions["pos"]) % 40 + 1  # the next item is one on
    sessions.to_parquet(tmp_path / "train.parquet")
    test = sessions[(sessions["session"] < 400) & (sessions["pos"] < 2)]
    test.to_parquet(tmp_path / "test_prefix.parquet")
    pd.DataFrame({"target": (np.arange(400) * 7 + 2) % 40 + 1}).to_parquet(tmp_path / "test_target.parquet")
    command = [sys.executable, str(BENCHMARKS / "published_diginetica.py"), str(tmp_path), "--quick"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "published_diginetica"
    assert set(told["figures"]) == {"best_single_p20", "best_single_mrr20", "blend_p20", "blend_mrr20"}
    assert 0 < told["figures"]["best_single_mrr20"] < told["figures"]["best_single_p20"] <= 100
    assert told["figures"]["blend_p20"] is None


@pytest.mark.slow
def test_the_last_line_of_cold_items_tells_its_figures(tmp_path: Path) -> None:
    rows, rng = 3000, np.random.default_rng(0)
    at = np.arange(rows)
    item = rng.integers(0, 40, rows) + (at > 0.7 * rows) * rng.integers(0, 20, rows)  # from 40 on they are new
    frame = pd.DataFrame({"product_id": item, "category_id": item % 4, "brand": "own", "price": 1.0 + item % 7})
    frame["event_time"] = (pd.Timestamp("2021-01-01") + pd.to_timedelta(at, unit="min")).strftime("%F %T UTC")
    frame["event_type"], frame["category_code"] = "view", [f"shop.part{i % 4}" for i in item]
    frame["user_session"] = at // 5
    frame.to_parquet(tmp_path / "events.parquet")
    command = [sys.executable, str(BENCHMARKS / "cold_items.py"), str(tmp_path / "events.parquet"), "--quick"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "cold_items"
    names = ("content", "ids", "category")
    assert set(told["figures"]) == {"targets"} | {f"{m}_{n}" for m in ("recall20", "ndcg20") for n in names}
    assert told["figures"]["targets"] > 0
    assert told["figures"]["recall20_ids"] == 0 < told["figures"]["recall20_content"]
