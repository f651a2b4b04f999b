import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from shopkeeper import cli
from shopkeeper.data.prepared import Prepared

SHARED = Path(os.environ.get("SHOPKEEPER_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
DAYS = pd.date_range("2025-07-01 12:00", periods=60, freq="6h")
USERS = [f"k{i % 20}" for i in range(60)]

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


def prepared(call: Call, *arguments: str) -> Prepared:
    """Inspect, write the proposal, and prepare with it, unchanged unless `arguments` say so."""
    code, output, errors = call("inspect", *arguments, "output=conf/data/shop.yaml")
    assert (code, output) == (0, "proposal: conf/data/shop.yaml\n"), errors
    code, _, errors = call("prepare", "--config-dir", "conf", "data=shop", "output=prepared/shop")
    assert code == 0, errors
    return Prepared.read("prepared/shop")


def test_three_odd_tables_are_prepared_as_proposed(call: Call, tmp_path: Path) -> None:
    web = {"Zeit": DAYS.strftime("%d.%m.%Y %H:%M"), "Aktion": ["gesehen", "in den Korb", "Kauf"] * 20, "Kunde": USERS}
    web_frame = pd.DataFrame(web | {"Artikel": "Brötchen", "Preis": "2,50"})
    web_frame.to_csv(tmp_path / "web.csv", sep=";", index=False, encoding="latin-1")
    stamps = DAYS.tz_localize("UTC").as_unit("ms").astype("int64") + 3_600_000
    app = pd.DataFrame({"ts": stamps, "was": "klick", "kunde": USERS, "artikel": "Brot"})
    app.to_json(tmp_path / "app.jsonl", orient="records", lines=True)
    till = {"am": DAYS, "bon": range(60), "kunde": USERS, "artikel": "Brot", "betrag": 1.25}
    pd.DataFrame(till).to_parquet(tmp_path / "till.parquet")

    found = prepared(call, "web.csv", "app.jsonl", "till.parquet")

    assert found.manifest["counts"]["rows_in"] == found.manifest["counts"]["events"] == 180
    assert found.manifest["counts"]["rows_dropped"] == 0
    assert found.manifest["counts"]["visitors"] == 20
    assert set(found.manifest["vocab"]["event"]["values"]) == {"session_start", "view_item", "add_to_cart", "purchase"}
    assert sorted(pd.Series(found.rows["price"]).dropna().unique()) == [1.25, 2.5]


def test_the_proposal_is_printed_and_warnings_are_apart(call: Call, tmp_path: Path) -> None:
    pd.DataFrame({"Farbe": ["rot", "blau"], "Kunde": ["a", "b"], "Sitzung": [1, 2]}).to_csv("odd log.csv", index=False)

    code, output, errors = call("inspect", "odd log.csv", "sample=10")

    assert code == 0
    assert output.startswith("# Proposed by shopkeeper inspect from odd log.csv (2 rows looked at)")
    assert "  timestamp: ???" in output
    assert errors.splitlines()[0] == "warning: odd log.csv: timestamp is not set: no column tells a time"
    assert call("inspect", "log=odd log.csv", "sample=10") == (code, output, errors)


def test_a_proposal_with_holes_is_refused_by_prepare(call: Call) -> None:
    pd.DataFrame({"Farbe": ["rot", "blau"], "Kunde": ["a", "a"]}).to_csv("odd.csv", index=False)
    call("inspect", "odd.csv", "output=conf/data/shop.yaml")

    code, _, errors = call("prepare", "--config-dir", "conf", "data=shop", "output=o")

    assert code == 2
    assert errors.startswith("error: data.columns.timestamp is not set: ")


def test_an_existing_file_is_kept(call: Call, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("mine")

    code, _, errors = call("inspect", "web.csv", "output=shop.yaml")

    assert (code, errors) == (2, "error: output=shop.yaml exists; choose another file or remove it\n")
    assert (tmp_path / "shop.yaml").read_text() == "mine"


def test_paths_may_hold_signs_that_overrides_use(call: Call, tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    frame = pd.DataFrame({"ts": DAYS.astype(str), "action": "view", "customer": USERS, "sku": "a"})
    for name in ("day=1/a, b.csv", "it's.csv", 'a"b.csv'):
        frame.to_csv(tmp_path / name, index=False)
        assert call("inspect", name, "--config-dir", ".")[0] == 0, name


def test_without_a_log_it_says_how_to_give_one(call: Call) -> None:
    assert call("inspect")[0::2] == (2, "error: log is not set: give it on the command line as log=...\n")
    assert call("inspect", "log=3")[2].startswith("error: config: log=3 is out of range: it must be a file")


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["rees46_electronics/events.parquet"], 103_193),
        (["diginetica_raw/train-item-views.csv.gz", "diginetica_raw/train-purchases.csv.gz"], 12_391 + 18_025),
        (["diginetica_raw/train-purchases.csv.gz", "diginetica_raw/product-categories.csv.gz"], 18_025),
        (["cdnow/transactions.parquet"], 69_659),
    ],
)
def test_real_logs_are_prepared_as_proposed(call: Call, names: list[str], rows: int) -> None:
    files = [SHARED / name for name in names]
    if not all(file.exists() for file in files):
        pytest.skip(f"{SHARED} does not hold {', '.join(names)}")

    counts = prepared(call, *map(str, files)).manifest["counts"]

    assert counts["rows_in"] == counts["events"] == rows


def test_a_real_log_whose_last_row_is_cut_is_prepared_without_it(call: Call, tmp_path: Path) -> None:
    file = SHARED / "rees46_multicategory" / "2019-Oct.csv.gz"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    (tmp_path / "oct.csv").write_bytes(gzip.decompress(file.read_bytes()).rpartition(b"\n")[0] + b"\n")

    assert prepared(call, "oct.csv").manifest["counts"]["events"] == 17_434
