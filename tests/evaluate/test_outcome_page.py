from typing import Any

from shopkeeper.evaluate.outcome_page import depth_table, likelihood_table, outcome_section, sets_table


def test_an_outcome_has_words_pictures_and_tables(metrics: dict[str, Any]) -> None:
    section = outcome_section(metrics, "segment:tier")

    assert section["anchor"] == "segment-tier"
    assert section["meaning"] == "the class of the visitor: gold, tin"
    assert section["verdicts"][0].startswith("own, all k, strangers: skill over the prior 0.33")
    assert any(line.startswith("own beats logistic, the best baseline, all k") for line in section["verdicts"])
    captions = [table["caption"] for table in section["tables"]]
    assert "own beside each baseline: log-loss saved, paired" in captions
    (skill,) = (t for t in section["tables"] if t["caption"].startswith("Strangers by steps seen: skill"))
    assert skill["columns"] == ["k=0 (12 visitors)", "k=1 (12 visitors)", "all k (12 visitors)"]
    assert [line["cells"][1]["mean"] for line in skill["lines"]] == ["0.6781", "0.0000", "0.4150"]


def test_verdicts_are_by_k(metrics: dict[str, Any]) -> None:
    (found,) = (t for t in outcome_section(metrics, "segment:tier")["tables"] if "paired" in t["caption"])

    words = {line["model"]: [cell["mean"] for cell in line["cells"]] for line in found["lines"]}
    assert words["logistic"] == ["no difference", "better", "better"]


def test_sets_say_coverage_and_size(metrics: dict[str, Any]) -> None:
    lines = {
        line["model"]: [cell["mean"] for cell in line["cells"]] for line in sets_table(metrics, "purchase")["lines"]
    }

    assert lines["k=1"] == ["0.5000", "4", "4", "12", "0"]


def test_likelihood_is_a_line_per_model(metrics: dict[str, Any]) -> None:
    (line,) = likelihood_table(metrics, "purchase")["lines"]

    assert [cell["mean"] for cell in line["cells"]] == ["2.0000", "1.0000", "1.0000"]


def test_depth_says_shares_and_errors(metrics: dict[str, Any]) -> None:
    lines = {line["model"]: line["cells"] for line in depth_table(metrics)["lines"]}

    assert [cell["mean"] for cell in lines["k=0"]] == ["100.0%", "0.0%", "0.0%", "-"]
    assert [cell["mean"] for cell in lines["k=1"]] == ["0.0%", "100.0%", "0.0%", "0.0%"]
    assert lines["k=1"][-1]["range"] == "[0.0, 0.0] of 12; 100.0% addressed"
