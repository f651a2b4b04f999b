from typing import Any

import pytest

from shopkeeper.export.champion import Decision, by_interval, figures, known_beforehand
from shopkeeper.train.registry import Version

OLD = Version("3", "run1", "d1")


def difference(low: float, high: float, verdict: str) -> dict[str, Any]:
    return {"mean": (low + high) / 2, "low": low, "high": high, "metric": "ndcg@20", "verdict": verdict}


@pytest.mark.parametrize(
    ("mode", "champion", "run", "dataset", "moves", "why"),
    [
        ("force", OLD, "run2", "d2", True, "champion=force asked for it"),
        ("keep", None, "run2", "d1", False, "champion=keep asked for it"),
        ("auto", None, "run2", "d1", True, "there was none"),
        ("auto", OLD, "run1", "d1", False, "version 3 is of the same run"),
        ("auto", OLD, "run2", "d2", False, "version 3 was trained on another prepared dataset"),
    ],
)
def test_what_needs_no_judging(
    mode: str, champion: Version | None, run: str, dataset: str, moves: bool, why: str
) -> None:
    decision = known_beforehand(mode, champion=champion, run_id=run, dataset_hash=dataset)

    assert decision is not None
    assert decision.moves is moves
    assert decision.why.startswith(why)


def test_two_of_one_dataset_have_to_be_compared() -> None:
    assert known_beforehand("auto", champion=OLD, run_id="run2", dataset_hash="d1") is None


@pytest.mark.parametrize(
    ("found", "moves", "words"),
    [
        (difference(0.01, 0.03, "better"), True, "it beats version 3: +0.0200 [+0.0100, +0.0300] ndcg@20"),
        (difference(-0.01, 0.03, "no difference"), False, "no difference to version 3: +0.0100 [-0.0100, +0.0300]"),
        (difference(-0.03, -0.01, "worse"), False, "it loses to version 3: -0.0200 [-0.0300, -0.0100]"),
        (difference(0.01, 0.03, "too few visitors"), False, "too few visitors to tell it from version 3"),
        (None, False, "it ranks nothing that version 3 ranks"),
    ],
)
def test_only_an_interval_above_zero_moves_it(found: dict[str, Any] | None, moves: bool, words: str) -> None:
    decision = by_interval(found, OLD)

    assert decision == Decision(moves, decision.why)
    assert decision.why.startswith(words)


def test_figures_are_those_of_the_subject_on_strangers() -> None:
    value = {"mean": 0.15384, "low": 0.1362, "high": 0.1728}
    row = {"population": "strangers", "slice": "k>=1", "model": "a", "metrics": {"ndcg@20": value}}
    rows = [row, row | {"model": "b"}, row | {"slice": "k=1"}, row | {"population": "known"}]

    assert figures({"tasks": {"next": {"rows": rows}}}, "a") == {"test/next/ndcg_at_20": "0.1538 [0.1362, 0.1728]"}
