"""The audit of a prepared dataset: every check in turn, then audit.json and one self-contained HTML page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from shopkeeper import __version__
from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate import leaks, sanity
from shopkeeper.evaluate.audit_page import section
from shopkeeper.evaluate.checks import Check, leaks_of
from shopkeeper.evaluate.order import shuffle_test
from shopkeeper.evaluate.report import write_whole
from shopkeeper.evaluate.settings import AuditConfig
from shopkeeper.evaluate.told import told_segments

AUDIT_JSON: Final = "audit.json"
AUDIT_PAGE: Final = "audit.html"


def audit(prepared: Prepared, config: AuditConfig) -> list[Check[Any]]:
    """All checks, those for leaks first."""
    warn, seed = config.warn_above, config.seed
    steps: list[Callable[[], Check[Any]]] = [
        lambda: leaks.content_unchanged(prepared),
        lambda: leaks.sessions_across_cuts(prepared),
        lambda: leaks.training_artifacts(prepared),
        lambda: leaks.users_apart(prepared),
        lambda: leaks.same_history_twice(prepared),
        lambda: leaks.telling_context(prepared),
        lambda: sanity.sizes(prepared),
        lambda: sanity.duplicate_events(prepared, warn_above=warn.duplicate_events),
        lambda: sanity.tied_times(prepared, warn_above=warn.tied_times),
        lambda: shuffle_test(prepared, seed=seed, **vars(config.shuffle)),
        lambda: sanity.overlap(prepared),
        lambda: sanity.drift(prepared, warn_above=warn.unseen_items, seed=seed),
        lambda: sanity.events_per_session(prepared),
        lambda: sanity.conversion(prepared, values=config.values),
        lambda: sanity.phase_flow(prepared),
        lambda: told_segments(prepared, warn_above=warn.told_segments),
    ]
    return [step() for step in tqdm(steps, desc="audit", unit="check", leave=False)]


def write_audit(
    checks: Sequence[Check[Any]], output: Path, *, title: str, facts: Mapping[str, str]
) -> tuple[Path, Path]:
    """Write `audit.json` and `audit.html` into `output`, each whole or not at all; return their paths."""
    output.mkdir(parents=True, exist_ok=True)
    content = {
        "title": title,
        "version": __version__,
        "facts": dict(facts),
        "leaks": leaks_of(checks),
        "checks": [plain(check) for check in checks],
    }
    return (
        write_whole(output / AUDIT_JSON, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"),
        write_whole(output / AUDIT_PAGE, render(checks, title=title, facts=facts)),
    )


def plain(value: Any) -> Any:
    """Dataclasses and named tuples as dictionaries, all the way down."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def render(checks: Sequence[Check[Any]], *, title: str, facts: Mapping[str, str]) -> str:
    """The page; all text is escaped, and it loads nothing."""
    from jinja2 import Environment, StrictUndefined

    source = files("shopkeeper.evaluate").joinpath("audit.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    shown = [section(check) for check in checks if check.figures is not None]
    return template.render(title=title, checks=checks, leaks=leaks_of(checks), sections=shown, facts=facts)
