import json
import subprocess
import sys
from pathlib import Path

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
