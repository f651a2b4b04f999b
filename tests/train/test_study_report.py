import json
from pathlib import Path
from typing import Any

from shopkeeper.train.study_report import render, summary, write_study

Facts = dict[str, Any]


def test_the_page_shows_every_part_and_loads_nothing(facts: Facts, tmp_path: Path) -> None:
    page = write_study([facts], tmp_path, study="s", commands={"sasrec": "shopkeeper train <again>"}).read_text()

    assert page.count("<svg") == 4
    for caption in ("History", "Parameter importance", "Parallel coordinates", "Time per trial", "Best trials"):
        assert caption in page
    assert "shopkeeper train &lt;again&gt;" in page
    assert "the loss is nan" in page
    assert "<script" not in page
    assert 'src="' not in page
    kept = json.loads((tmp_path / "study.json").read_text())
    assert kept["families"][0]["trials"][0]["value"] == 0.2


def test_the_best_and_the_yaml_s_own_values_stand_side_by_side(facts: Facts) -> None:
    assert summary(facts) == {
        "family": "sasrec",
        "best": "0.3000",
        "first": "0.2000",
        "states": "3 complete, 1 failed, 1 pruned, 1 stopped",
        "seconds": "38",  # 10 + 12 + 4 + 11 + 1; the stopped one's end is when it was found
    }


def test_a_study_without_a_complete_trial_has_a_page(facts: Facts) -> None:
    empty = facts | {"trials": [], "best": None, "importance": {}}

    assert "No trial is complete yet." in render([empty], study="s", commands={})
