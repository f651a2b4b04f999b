"""Two models side by side: every slice with both means, the paired difference and what can be said of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate.tables import POOLED, difference_sentence, rows_of


def comparison_text(metrics: Mapping[str, Any], subject: str, rival: str, *, task: str) -> str:
    """A line per population and slice, and the verdict over all k >= 1 in words."""
    main = f"ndcg@{metrics['protocol']['cutoff']}"
    wide = max(len(subject), len(rival), 10)
    head = f"{'slice':<28}{'visitors':>9}  {subject:>{wide}}  {rival:>{wide}}  difference [95% interval]"
    lines = [f"{task}: {main} on the same test examples", "", head]
    for first, second in pairs(metrics, subject, rival, task=task):
        found = first["differences"][rival]
        name = f"{first['population'].replace('_', ' ')}, {first['slice']}"
        lines.append(
            f"{name:<28}{first['visitors']:>9,}  {first['metrics'][main]['mean']:>{wide}.4f}"
            f"  {second['metrics'][main]['mean']:>{wide}.4f}"
            f"  {found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] {found['verdict']}"
        )
    pooled = difference_of(metrics, subject, rival, task=task)
    if pooled is not None:
        lines += ["", difference_sentence(subject, rival, pooled, best=False, part=f"{POOLED}, strangers")]
    return "\n".join(lines)


def pairs(
    metrics: Mapping[str, Any], subject: str, rival: str, *, task: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of both for each population and slice, in the order of the table."""
    rows = metrics["tasks"][task]["rows"]
    places = dict.fromkeys((row["population"], row["slice"]) for row in rows)
    for population, part in places:
        found = {row["model"]: row for row in rows_of(metrics, task, population, part=part)}
        if subject in found and rival in found:
            yield found[subject], found[rival]


def difference_of(metrics: Mapping[str, Any], subject: str, rival: str, *, task: str) -> dict[str, Any] | None:
    """The paired difference over strangers' k >= 1, with its verdict: what a choice between the two rests on."""
    for row in rows_of(metrics, task, s.STRANGERS, part=POOLED):
        if row["model"] == subject and rival in row["differences"]:
            found: dict[str, Any] = row["differences"][rival]
            return found
    return None
