import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shopkeeper import cli
from shopkeeper.data.prepared import Prepared

Call = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run the console command in an empty folder; return its exit code, lines of output, and errors."""
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, list[str], str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["shopkeeper", "audit", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        output, errors = capsys.readouterr()
        return code, output.splitlines(), errors.replace("\r", "\n").splitlines()[-1] if errors.strip() else ""

    return run


@pytest.mark.parametrize("name", ["clicks", "orders"])
def test_a_clean_shop_ends_well(call: Call, shops: dict[str, Prepared], tmp_path: Path, name: str) -> None:
    code, output, _ = call(f"prepared={shops[name].path}", "shuffle.resamples=50")

    assert code == 0
    assert output[-1] == "audit: audit/audit.html"
    assert {line.split()[0] for line in output[:-1]} <= {"ok", "warn", "n/a"}
    assert output[0].startswith("ok    content hash: ")
    content = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert content["leaks"] == []
    assert len(content["checks"]) == len(output) - 1
    assert content["facts"]["dataset"] == shops[name].content_hash


def test_a_leak_is_exit_code_one_after_the_page_is_made(call: Call, shops: dict[str, Prepared], tmp_path: Path) -> None:
    folder = shutil.copytree(shops["clicks"].path, tmp_path / "leaky")
    split = np.load(folder / "sessions" / "split.npy")
    split[:] = 0  # every session is of train
    np.save(folder / "sessions" / "split.npy", split)

    code, output, error = call(f"prepared={folder}", "output=found", "shuffle.resamples=50")

    assert code == 1
    assert output[-1] == "audit: found/audit.html"
    leaks = [line for line in output if line.startswith("LEAK  ")]
    assert [line.split(": ")[0] for line in leaks] == ["LEAK  content hash", "LEAK  sessions across a cut"]
    assert error == "error: 2 of 16 checks found a leak: content hash; sessions across a cut"
    assert json.loads((tmp_path / "found" / "audit.json").read_text())["leaks"] == [
        "content hash",
        "sessions across a cut",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prepared=nowhere", "error: prepared=nowhere is not a prepared dataset"),
        ("shuffle.moments=0", "error: config: shuffle.moments=0 is out of range: it must be at least 1"),
        ("warn_above.tied_times=2", "error: config: warn_above.tied_times=2.0 is out of range: it must be from 0 to 1"),
        ("values=0", "error: config: values=0 is out of range"),
    ],
)
def test_a_mistake_of_the_user_is_exit_code_two(call: Call, override: str, message: str) -> None:
    code, output, error = call("prepared=p", override) if not override.startswith("prepared") else call(override)

    assert (code, output) == (2, [])
    assert error.startswith(message)
