import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate.audit import audit, plain, write_audit
from shopkeeper.evaluate.checks import Check, leak_when, leaks_of, not_applicable, warn_when
from shopkeeper.evaluate.intervals import Interval
from shopkeeper.evaluate.sanity import Share
from shopkeeper.evaluate.settings import AuditConfig

NAMES = [
    "content hash",
    "sessions across a cut",
    "training artifacts",
    "users across strangers and known",
    "the same history under another name",
    "context that gives the outcome away",
    "split sizes",
    "duplicate events",
    "tied times",
    "shuffle test",
    "overlap of splits",
    "catalogue drift",
    "events per session",
    "conversion",
    "phase flow",
    "segments told by context",
]


class Page(HTMLParser):
    """Fails on tags that do not match; keeps what the page would load, its anchors and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        link = values.get("src") or values.get("href") or ""
        self.links.add(link) if link.startswith("#") and tag == "a" else self.loads.append(link)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def config(compose: Callable[..., Any]) -> AuditConfig:
    made: AuditConfig = compose("audit", AuditConfig, "prepared=p", "shuffle.resamples=50")
    return made


@pytest.mark.parametrize("shop_name", ["clicks", "orders"])
def test_a_clean_shop_passes_every_check(shops: dict[str, Prepared], config: AuditConfig, shop_name: str) -> None:
    checks = audit(shops[shop_name], config)

    assert [check.name for check in checks] == NAMES
    assert leaks_of(checks) == []
    judged = {check.name for check in checks if check.figures is not None}
    absent = {"phase flow"} if shop_name == "clicks" else {"phase flow", "conversion", NAMES[5]}
    if "phase" in shops[shop_name].rows:
        absent -= {"phase flow"}
    assert set(NAMES) - judged == absent


def test_the_same_seed_gives_the_same_audit(shops: dict[str, Prepared], config: AuditConfig) -> None:
    assert audit(shops["clicks"], config) == audit(shops["clicks"], config)


def test_a_log_that_lacks_almost_everything_is_audited(
    prepare_csv: Callable[..., Prepared], config: AuditConfig, tmp_path: Path
) -> None:
    prepared = prepare_csv("timestamp,user_id,event\n2026-01-02T10:01,ann,search\n2026-01-31T00:00,ann,search")

    checks = audit(prepared, config)
    _, page = write_audit(checks, tmp_path, title="bare", facts={})

    assert leaks_of(checks) == []
    assert [c.name for c in checks if c.status == "n/a" and c.name != "phase flow"] == [
        "context that gives the outcome away",
        "shuffle test",
        "catalogue drift",
        "conversion",
        "segments told by context",
    ]
    assert Page(page).open == []


def test_the_page_is_whole_and_loads_nothing(shop: Prepared, config: AuditConfig, tmp_path: Path) -> None:
    checks = audit(shop, config)
    _, file = write_audit(checks, tmp_path / "new" / "audit", title="corner shop", facts={"dataset": "abc"})

    page = Page(file)
    assert page.open == []
    assert not any(page.loads)
    assert "<script" not in file.read_text()
    assert all(link[1:] in page.ids for link in page.links)
    assert len(page.links) == sum(check.figures is not None for check in checks)
    assert all(check.says in page.text for check in checks)
    assert "No leak was found." in page.text
    assert sorted(f.name for f in file.parent.iterdir()) == ["audit.html", "audit.json"]


def test_json_holds_every_check_with_its_figures(tmp_path: Path) -> None:
    checks: list[Check[Any]] = [
        leak_when("users", True, "2 users", {"users": 2}),
        warn_when("ties", False, "few", Share(1, 4)),
        not_applicable("conversion", "no purchases"),
    ]
    file, page = write_audit(checks, tmp_path, title="<b>", facts={"command": "shopkeeper audit prepared=<p>"})

    content = json.loads(file.read_text())
    assert content["leaks"] == ["users"]
    assert content["checks"] == [
        {"name": "users", "status": "LEAK", "says": "2 users", "figures": {"users": 2}},
        {"name": "ties", "status": "ok", "says": "few", "figures": {"count": 1, "of": 4, "share": 0.25}},
        {"name": "conversion", "status": "n/a", "says": "not applicable: no purchases", "figures": None},
    ]
    assert "1 of 3 checks found a leak" in Page(page).text
    assert "<h1>&lt;b&gt;: audit</h1>" in page.read_text()
    assert "prepared=&lt;p&gt;" in page.read_text()


def test_named_tuples_and_lists_become_plain() -> None:
    assert plain({"a": [Interval(0.5, 0.0, 1.0, 2, 1)]}) == {
        "a": [{"mean": 0.5, "low": 0.0, "high": 1.0, "examples": 2, "visitors": 1}]
    }
