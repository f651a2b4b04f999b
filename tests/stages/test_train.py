from collections.abc import Callable
from typing import Any

import pytest

from shopkeeper.config import TrainConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.stages import train


def test_the_last_line_names_the_run(
    shops: dict[str, Prepared],
    compose: Callable[..., Any],
    tracking_overrides: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = [f"prepared={shops['clicks'].path}", "model=repeat", *tracking_overrides]
    train.run(compose("train", TrainConfig, *overrides))

    lines = capsys.readouterr().out.splitlines()
    run_id = lines[0].split()[1].rstrip(":")
    assert lines[0] == f"run {run_id}: repeat"
    assert lines[-2].startswith("val/purchase/ndcg_at_20=")
    assert lines[-1] == f"run: {run_id}"
