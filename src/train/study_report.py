"""study.json and one self-contained HTML page of a study: history, importance, values, best trials and time."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from shopkeeper.evaluate.charts import to_svg
from shopkeeper.evaluate.report import write_whole
from shopkeeper.train.study_charts import (
    Facts,
    complete,
    history_figure,
    importance_figure,
    parallel_figure,
    short,
    time_figure,
)

JSON_FILE, PAGE_FILE = "study.json", "study.html"
SHOWN = 10
"""Best trials in the table."""


def write_study(families: Sequence[Facts], output: Path, *, study: str, commands: Mapping[str, str]) -> Path:
    """Write both files into `output`, each whole or not at all; return the page."""
    output.mkdir(parents=True, exist_ok=True)
    content = {"study": study, "commands": dict(commands), "families": list(families)}
    write_whole(output / JSON_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return write_whole(output / PAGE_FILE, render(families, study=study, commands=commands))


def render(families: Sequence[Facts], *, study: str, commands: Mapping[str, str]) -> str:
    """The page; all text is escaped, and it loads nothing."""
    from jinja2 import Environment, StrictUndefined

    source = files("shopkeeper.train").joinpath("study.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    sections = [section(facts, commands.get(facts["family"])) for facts in families]
    return template.render(study=study, summary=[summary(facts) for facts in families], families=sections)


def summary(facts: Facts) -> dict[str, Any]:
    """A line of the first table: the best of a family, what its YAML's own values came to, and what it took."""
    values = {trial["number"]: trial["value"] for trial in complete(facts)}
    states = Counter(trial["state"] for trial in facts["trials"])
    return {
        "family": facts["family"],
        "best": number(values.get(facts["best"])),
        "first": number(values.get(facts["trials"][0]["number"]) if facts["trials"] else None),
        "states": ", ".join(f"{count} {state}" for state, count in sorted(states.items())),
        "seconds": f"{sum(trial['seconds'] for trial in facts['trials'] if trial['state'] != 'stopped'):,.0f}",
    }


def number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def section(facts: Facts, command: str | None) -> dict[str, Any]:
    done = complete(facts)
    best = sorted(done, key=lambda trial: (-trial["value"], trial["number"]))[:SHOWN]
    keys = [parameter["key"] for parameter in facts["space"]]
    return {
        "name": facts["family"],
        "command": command,
        "figures": [{"caption": c, "alt": alt, "svg": to_svg(f)} for c, alt, f in figures(facts)] if done else [],
        "keys": keys,
        "best": [
            {
                "number": trial["number"],
                "value": number(trial["value"]),
                "run": trial["run"],
                "seconds": f"{trial['seconds']:.1f}",
                "values": [short(trial["params"][key]) for key in keys],
            }
            for trial in best
        ],
        "failed": [(trial["number"], trial["error"]) for trial in facts["trials"] if trial["error"]],
    }


def figures(facts: Facts) -> list[tuple[str, str, Any]]:
    """(caption, what it shows in words, picture) of each picture that there is enough for."""
    done = complete(facts)
    best = max(trial["value"] for trial in done)
    weights = facts["importance"]
    found = [("History: val/primary of every trial.", f"Best of {len(done)} trials: {best:.4f}", history_figure(facts))]
    if weights:
        words = ", ".join(f"{name} {share:.2f}" for name, share in weights.items())
        caption = "Parameter importance: its share in a trial being among the best (PED-ANOVA)."
        found.append((caption, f"Importance: {words}", importance_figure(facts)))
    if len(done) > 1:
        caption = "Parallel coordinates: a line per complete trial, the better the darker."
        found.append((caption, "Values of the best trial are in the table below", parallel_figure(facts)))
    longest = max(trial["seconds"] for trial in done)
    found.append(("Time per trial.", f"The longest complete trial took {longest:.0f} seconds", time_figure(facts)))
    return found
