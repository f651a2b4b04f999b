import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.evaluate.report import write_report

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Collects what tests ask for, and fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.captions = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")]
        self.captions += tag == "caption"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def written(metrics: dict[str, Any], tmp_path: Path) -> tuple[Path, Path]:
    return write_report(
        metrics,
        tmp_path / "new" / "report",
        title="shop <b>&</b>",
        facts={"command": "shopkeeper evaluate prepared=<p>", "run": "r1"},
        drops=[("prepare", "quantity not above zero", 3985)],
        curves={"ndcg on validation strangers": [0.1, 0.2], "none": []},
        segments='<section id="cards">who they are</section>',
    )


def parse(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text())
    return page


def test_metrics_json_holds_the_table_and_what_was_left_out(
    written: tuple[Path, Path], metrics: dict[str, Any]
) -> None:
    content = json.loads(written[0].read_text())

    assert content["tasks"] == metrics["tasks"]
    assert content["left_out"] == [["prepare", "quantity not above zero", 3985]]
    assert content["facts"]["run"] == "r1"


def test_the_page_is_whole_and_loads_nothing(written: tuple[Path, Path]) -> None:
    page = parse(written[1])

    assert page.open == []
    assert page.links == []
    assert "<script" not in written[1].read_text()
    assert sorted(f.name for f in written[1].parent.iterdir()) == ["metrics.json", "report.html"]


def test_the_page_says_it_in_words_tables_and_pictures(written: tuple[Path, Path]) -> None:
    page, source = parse(written[1]), written[1].read_text()

    assert "own beats good, the best baseline at k>=1, strangers: +0.3691" in page.text
    assert "3,985" in page.text
    assert '<section id="cards">who they are</section>' in source
    # warm-up curve, trade-off, skill and reliability of the outcome, training curve
    assert source.count('role="img"') == 5
    assert "own, all k, strangers: skill over the prior" in page.text
    assert "Depth: how personal the answers may be" in page.text
    assert source.count("<table") == page.captions


def test_text_is_escaped(written: tuple[Path, Path]) -> None:
    source = written[1].read_text()

    assert "<h1>shop &lt;b&gt;&amp;&lt;/b&gt;</h1>" in source
    assert "prepared=&lt;p&gt;" in source
