from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.data.settings import PrepareConfig
from shopkeeper.stages import prepare


def test_it_accounts_for_every_row_and_names_the_dataset(
    logs: dict[str, Path], compose: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data=events", f"data.events={logs['orders']}", f"output={tmp_path / 'shop'}"]
    prepare.run(compose("prepare", PrepareConfig, *overrides))
    first = capsys.readouterr().out
    prepare.run(compose("prepare", PrepareConfig, *overrides))
    again = capsys.readouterr().out

    assert "           0  in all" in first
    assert "predictable: purchase; no next: the log has no events besides purchases" in first
    assert first.splitlines()[-1] == f"prepared dataset: {tmp_path / 'shop'}"
    assert again.splitlines()[0] == f"reusing {tmp_path / 'shop'}: same log, same config"
