import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from shopkeeper import cli
from shopkeeper.data.prepared import Prepared

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run the console command in an empty folder; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["shopkeeper", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        output, errors = capsys.readouterr()
        return code, output, errors

    return run


def one_line(errors: str) -> str:
    """The last line, which must be the error; before it only progress."""
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line.strip()]
    assert "Traceback" not in errors
    assert sum(line.startswith("error: ") for line in lines) == 1
    return lines[-1]


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['shopkeeper', '--help']\n"
        "from shopkeeper.cli import main; main()\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'mlflow', 'pandas', 'numpy', 'ibis'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert all(f"\n  {command}" in result.stdout for command in cli.COMMANDS)


def test_without_arguments_it_helps(call: Call) -> None:
    assert call() == call("--help")


def test_an_unknown_command_is_refused(call: Call) -> None:
    assert call("fly")[0::2] == (2, f"error: unknown command 'fly'; commands are: {', '.join(cli.COMMANDS)}\n")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_shows_its_config_and_help(call: Call, command: str) -> None:
    code, config, _ = call(command, "--cfg", "job")
    assert code == 0
    assert "hydra:" not in config
    assert call(command, "--help")[1].startswith(f"shopkeeper {command}: ")


def test_a_log_in_a_form_nobody_foresaw_needs_nothing_but_yaml(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "data"
    folder.mkdir(parents=True)
    (folder / "shop.yaml").write_text("""
defaults: [events]
time_zone: Europe/Berlin
split: {holdout_share: 0}
feeds:
  web:
    events: web.csv
    columns: {timestamp: Zeit, event: Aktion, user_id: Kunde, item_id: Artikel}
    event_names: {gesehen: view_item}
    csv: {separator: ";"}
  till:
    events: till.jsonl
    columns: {timestamp: ts, user_id: kunde, item_id: artikel}
    constants: {event: purchase}
    time_unit: ms
""")
    days = pd.date_range("2026-07-01 12:00", periods=60, freq="6h")
    web = pd.DataFrame(
        {"Zeit": days, "Aktion": "gesehen", "Kunde": [f"k{i % 20}" for i in range(60)], "Artikel": "Brot"}
    )
    web.to_csv(tmp_path / "web.csv", sep=";", index=False)
    milliseconds = days.tz_localize("UTC").as_unit("ms").astype("int64")  # three hours after the clicks
    till = pd.DataFrame({"ts": milliseconds + 3_600_000, "kunde": web["Kunde"], "artikel": "Brot"})
    till.to_json(tmp_path / "till.jsonl", orient="records", lines=True)

    code, output, _ = call("prepare", "--config-dir", str(tmp_path / "conf"), "data=shop", "output=prepared")

    assert code == 0
    assert "120 events, 120 sessions, 20 visitors, 1 items" in output
    prepared = Prepared.read("prepared")
    first = prepared.rows["time"][:2]
    assert pd.Timestamp(first[0] * 1000) == pd.Timestamp("2026-07-01 10:00")
    assert first[1] - first[0] == 3 * 3600 * 1_000_000


def test_flags_may_follow_overrides(call: Call) -> None:
    code, config, _ = call("train", "task=purchase", "--cfg", "job")

    assert code == 0
    assert "heads: purchase" in config


def test_a_sweep_runs_each_value(call: Call, shops: dict[str, Prepared], tmp_path: Path) -> None:
    code, output, _ = call("train", f"prepared={shops['clicks'].path}", "-m", "model=popularity,repeat")

    assert code == 0
    assert output.count("run: ") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns.db", "mlartifacts", "runs", "multirun"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.embed_dim=7", "embed_dim=7 must be a multiple of num_heads=2"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0 is out of range: it must be a whole number, at least 1"),
        ("trainer.accelerator=abacus", "trainer: "),
        ("+trainer.max_ages=3", "max_ages"),
        ("loss.num_negatives=0", "loss.num_negatives=0 is out of range: it must be at least 1"),
        ("+loss.temperature=2", "'temperature'"),
        ("~model.likeness.next", "model: a value is missing: 'next'"),
        ("~task.weights.next", "task.weights"),
        ("optimizer.warmup_steps=-5", "optimizer.warmup_steps=-5 is out of range"),
        ("protocol.cutoff=5", "protocol"),
        ("task.weights.next=0", "task.weights.next=0.0 is out of range: it must be above 0"),
        ("optimizer.heads_lr=0", "optimizer.heads_lr=0.0 is out of range: it must be above 0"),
        ("task.outcome_weights.intent=0", "task.outcome_weights.intent=0.0 is out of range: it must be above 0"),
        ("calibration.coverage=1", "calibration.coverage=1.0 is out of range: it must be between 0 and 1"),
        ("calibration.borrowed=0", "calibration.borrowed=0.0 is out of range: it must be above 0"),
        ("calibration.least=0", "calibration.least=0 is out of range: it must be at least 1"),
        ("last_layer.penalties=[]", "last_layer.penalties=[] is out of range: it must be numbers above 0"),
        ("depth.error=0", "depth.error=0.0 is out of range: it must be between 0 and 1"),
    ],
)
def test_a_value_that_cannot_be_is_named(call: Call, shops: dict[str, Prepared], override: str, message: str) -> None:
    code, _, errors = call("train", f"prepared={shops['clicks'].path}", override)

    assert code == 2
    assert message in one_line(errors)


def test_an_unknown_key_is_refused_by_name(call: Call) -> None:
    code, _, errors = call("train", "prepared=p", "model.embed_dims=3")

    assert code == 2
    assert "model.embed_dims" in one_line(errors)


def test_an_added_unknown_key_is_refused_by_name(call: Call) -> None:
    code, _, errors = call("prepare", "output=o", "+data.holdout=3")

    assert code == 2
    assert "'holdout'" in one_line(errors)


def test_an_unknown_option_of_a_group_is_refused(call: Call) -> None:
    code, _, errors = call("train", "prepared=p", "model=oracle")

    assert code == 2
    assert "model/oracle" in one_line(errors)


def test_a_missing_key_says_how_to_give_it(call: Call) -> None:
    assert call("prepare")[0::2] == (
        2,
        "error: output is not set: give it on the command line as output=...\n",
    )


def test_a_wrong_type_names_the_key(call: Call) -> None:
    code, _, errors = call("train", "prepared=p", "batches.max_len=long")

    assert code == 2
    assert "batches.max_len" in one_line(errors)


def test_a_file_that_is_not_there_is_named(call: Call) -> None:
    code, _, errors = call("prepare", "data=events", "data.events=gone.parquet", "output=o")

    assert (code, one_line(errors)) == (2, "error: data.events: gone.parquet does not exist")


def test_a_truncated_parquet_is_named(call: Call, logs: dict[str, Path], tmp_path: Path) -> None:
    content = logs["clicks"].read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])

    code, _, errors = call("prepare", "data=events", "data.events=cut.parquet", "output=o")

    assert code == 2
    assert one_line(errors).startswith("error: data.events: cut.parquet cannot be read: ")
    assert not (tmp_path / "o").exists()


def test_a_damaged_page_is_one_line_too(call: Call, logs: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(logs["clicks"].read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "bad.parquet").write_bytes(content)

    code, _, errors = call("prepare", "data=events", "data.events=bad.parquet", "output=o")

    assert code == 2
    assert "bad.parquet" in one_line(errors)


def test_an_empty_split_is_one_line(call: Call, logs: dict[str, Path]) -> None:
    days = ["data.split.val_share=null", "data.split.test_share=null", "data.split.val_days=900"]
    code, _, errors = call(
        "prepare", "data=events", f"data.events={logs['clicks']}", "output=o", *days, "data.split.test_days=9"
    )

    assert code == 2
    assert "leave a split empty: choose smaller validation and test windows" in one_line(errors)


def test_a_log_too_small_for_strangers_is_one_line(call: Call, tmp_path: Path) -> None:
    frame = pd.DataFrame({"timestamp": pd.date_range("2026-01-01", periods=30), "event": "purchase", "user_id": "u"})
    frame.assign(item_id="i").to_parquet(tmp_path / "small.parquet")
    events = ["data=events", "data.events=small.parquet", "data.split.holdout_share=0"]

    assert call("prepare", *events, "output=o")[0] == 0
    code, _, errors = call("train", "prepared=o", "model=popularity")

    assert code == 2
    assert "the val split has no strangers with events" in one_line(errors)


def test_no_run_to_choose_from_is_one_line(call: Call, shops: dict[str, Prepared]) -> None:
    code, _, errors = call("evaluate", f"prepared={shops['clicks'].path}", "output=o")

    assert code == 2
    assert "no finished run on this prepared dataset in sqlite:///mlruns.db; train one first" in one_line(errors)


def test_a_folder_of_something_else_is_no_dataset(call: Call, tmp_path: Path) -> None:
    code, _, errors = call("train", f"prepared={tmp_path}")

    assert code == 2
    assert "is not a prepared dataset (no manifest.json); run: shopkeeper prepare" in one_line(errors)


def test_a_full_disk_is_one_line(call: Call, shops: dict[str, Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "model.pt")

    monkeypatch.setattr("shopkeeper.train.fit.save_model", full)
    code, _, errors = call("train", f"prepared={shops['clicks'].path}", "model=popularity")

    assert (code, one_line(errors)) == (2, "error: model.pt: No space left on device")


def test_a_bug_keeps_its_trace(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from shopkeeper.stages import doctor

    monkeypatch.setattr(doctor, "run", lambda config: [][1])

    with pytest.raises(IndexError):
        call("doctor")


def test_hydra_leaves_no_folders_behind(call: Call, tmp_path: Path) -> None:
    call("doctor")

    assert not [f.name for f in tmp_path.iterdir() if f.name in ("outputs", ".hydra", "multirun")]


def test_what_others_take_one_of_may_be_given_twice(call: Call) -> None:
    code, config, _ = call("compare", "run=a", "prepared=p", "run=b", "--cfg", "job")
    assert code == 0
    assert "runs:\n- a\n- b\n" in config

    code, config, _ = call("tune", "model=repeat", "--cfg", "job")
    assert code == 0
    assert "models:\n- repeat\n" in config
