"""Who is champion: a new version takes the old one's place only where test strangers say that it ranks better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate.tables import POOLED, rows_of
from shopkeeper.train.registry import Version


@dataclass(frozen=True)
class Decision:
    """Whether the alias moves to the new version, and why."""

    moves: bool
    why: str


def known_beforehand(mode: str, *, champion: Version | None, run_id: str, dataset_hash: str) -> Decision | None:
    """What needs no judging; None where the two have to be compared."""
    if mode == "force":
        return Decision(True, "champion=force asked for it")
    if mode == "keep":
        return Decision(False, "champion=keep asked for it")
    if champion is None:
        return Decision(True, "there was none")
    if champion.run_id == run_id:
        return Decision(False, f"version {champion.number} is of the same run; champion=force moves it")
    if champion.dataset_hash != dataset_hash:
        return Decision(
            False,
            f"version {champion.number} was trained on another prepared dataset, so the two have no test examples in "
            "common; champion=force moves it",
        )
    return None


def by_interval(difference: Mapping[str, Any] | None, champion: Version) -> Decision:
    """The champion falls to a paired difference whose whole interval lies above zero, and to nothing else."""
    if difference is None:
        return Decision(False, f"it ranks nothing that version {champion.number} ranks")
    numbers = (
        f"{difference['mean']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}] {difference['metric']} "
        f"over strangers' {POOLED}"
    )
    said = {"better": "it beats", "worse": "it loses to", "no difference": "no difference to"}
    words = said.get(difference["verdict"], f"{difference['verdict']} to tell it from")
    return Decision(difference["verdict"] == "better", f"{words} version {champion.number}: {numbers}")


def figures(metrics: Mapping[str, Any], subject: str) -> dict[str, str]:
    """Each metric of the subject on test strangers, as `test/purchase/ndcg_at_20` -> `0.15 [0.13, 0.17]`."""
    found: dict[str, str] = {}
    for task in metrics["tasks"]:
        for row in rows_of(metrics, task, s.STRANGERS, part=POOLED):
            if row["model"] == subject:
                found |= {
                    f"test/{task}/{name.replace('@', '_at_')}": f"{v['mean']:.4f} [{v['low']:.4f}, {v['high']:.4f}]"
                    for name, v in row["metrics"].items()
                }
    return found
