import sys
from pathlib import Path
from typing import Any

import pytest

from shopkeeper import cli
from shopkeeper.config import DemoConfig
from shopkeeper.stages import demo
from shopkeeper_serving.schemas import Event

SASREC = [
    "model.embed_dim=8",
    "model.num_layers=1",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]


@pytest.fixture
def config(logs: dict[str, Path], tmp_path: Path) -> DemoConfig:
    return DemoConfig(
        log="events",
        output=str(tmp_path / "demo"),
        prepare=[f"data.events={logs['clicks']}", "data.split.val_share=0.25", "data.split.test_share=0.25"],
        models={"popularity": [], "sasrec": SASREC},
        evaluate=["protocol.resamples=20"],
        request_steps=2,
    )


def run(config: DemoConfig, capsys: pytest.CaptureFixture[str]) -> str:
    demo.run(config)
    return capsys.readouterr().out


def test_it_ends_with_a_served_answer_and_reuses_everything_the_second_time(
    config: DemoConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = run(config, capsys), run(config, capsys)

    for output in (first, again):
        assert "  purchase 1. item " in output
        assert "sasrec" in output[output.index("ndcg@20 of test strangers") :]
        assert output.splitlines()[-1] == f"bundle: {Path(config.output) / 'bundle'}"
    assert "reusing" not in first
    assert again.count("reusing") == 5  # the dataset, two runs, the report and the bundle


def test_a_damaged_bundle_is_made_anew(config: DemoConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, capsys)
    (Path(config.output) / "bundle" / "vocabulary.json").write_text("{}")

    again = run(config, capsys)

    assert again.count("reusing") == 4
    assert "  purchase 1. item " in again


def test_a_changed_setting_trains_anew(config: DemoConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, capsys)
    config.models["sasrec"] = [*SASREC, "seed=2"]

    again = run(config, capsys)

    assert "reusing run" in again
    assert again.count(": popularity, same data and config") == 1
    assert ": sasrec, same data and config" not in again


def test_a_request_goes_no_further_than_the_strangers_do(
    config: DemoConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config.request_steps = 100_000

    assert "  purchase 1. item " in run(config, capsys)


def test_programs_are_named_as_they_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "tool"):
        (folder / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    monkeypatch.setenv("PATH", "/nowhere")
    assert demo.program("tool") == "env/bin/tool"
    monkeypatch.setenv("PATH", str(folder))
    assert demo.program("tool") == "tool"


def test_any_log_goes_through_from_the_command_line(
    logs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[DemoConfig] = []
    monkeypatch.setattr(demo, "run", asked.append)
    monkeypatch.setattr(
        sys,
        "argv",
        ["shopkeeper", "demo", f"output={tmp_path}", "log=events", f'prepare=["data.events={logs["clicks"]}"]'],
    )

    cli.main()

    assert (asked[0].log, asked[0].prepare) == ("events", [f"data.events={logs['clicks']}"])


def test_what_is_told_of_the_visitor_is_printed_in_words() -> None:
    events = [Event(event="session_start"), Event(event="view_item", item_id="7"), Event(event="search")]
    answer = {
        "segments": {"income": {"low": 0.1, "high": 0.6, "middle": 0.3}, "region": {"north": 0.5, "south": 0.5}},
        "explanation": {
            "income": {
                "influences": [
                    {"change": 0.125, "event": 1, "context": None},
                    {"change": -0.05, "event": None, "context": "channel"},
                    {"change": 0.01, "event": 2, "context": None},
                ]
            },
            "region": {"influences": []},
        },
        "intent": 0.25,
        "phase": {"discovery": 0.75, "purchase": 0.25},
        "depth": "segment",
        "address_as": {"income": "high"},
    }

    assert list(demo.outcome_lines(answer, events)) == [
        "income: high 60%, middle 30%, low 10%  [view_item 7 +12.5%; channel -5.0%]",
        "region: north 50%, south 50%",
        "a purchase in this session: 25%",
        "next phase: discovery 75%, purchase 25%",
        "depth: segment, may be addressed as income high",
    ]


def test_of_what_the_model_does_not_tell_nothing_is_printed() -> None:
    answer: dict[str, Any] = {
        "segments": {},
        "explanation": {},
        "intent": None,
        "phase": None,
        "depth": None,
        "address_as": {},
    }

    assert list(demo.outcome_lines(answer, [])) == []
