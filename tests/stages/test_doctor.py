from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import DoctorConfig, UserError
from shopkeeper.stages import doctor


def test_it_tells_what_is_there(
    compose: Callable[..., Any], tracking_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.run(compose("doctor", DoctorConfig, *tracking_overrides))

    lines = capsys.readouterr().out.splitlines()
    assert f"torch                {version('torch')}" in lines
    assert any(line.startswith("device: ") for line in lines)
    assert lines[-1] == "all is well"


def test_it_tells_what_is_missing_and_what_for(
    compose: Callable[..., Any],
    tracking_overrides: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "NEEDED_FOR", {"no-such-package": "nothing at all"})

    with pytest.raises(UserError, match="missing: no-such-package"):
        doctor.run(compose("doctor", DoctorConfig, *tracking_overrides))
    assert "no-such-package      missing, needed for nothing at all" in capsys.readouterr().out


def test_a_store_that_cannot_be_reached_is_missing(compose: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = f"tracking.uri=sqlite:///{tmp_path / 'file' / 'm.db'}"

    with pytest.raises(UserError, match="missing: tracking"):
        doctor.run(compose("doctor", DoctorConfig, nowhere))
