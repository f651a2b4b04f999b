"""shopkeeper compare: two runs on the same test examples -> who ranks better, slice by slice, or no difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopkeeper import __version__
from shopkeeper.config import ProtocolConfig, UserError
from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate.comparison import comparison_text
from shopkeeper.evaluate.judge_tasks import judge_tasks
from shopkeeper.evaluate.report import write_report
from shopkeeper.models.checkpoint import load_model
from shopkeeper.stages.evaluate import best_of, drops
from shopkeeper.train.settings import CompareConfig
from shopkeeper.train.tracking import FAMILY, MODEL_FILE, REFIT_OF, Store, TrackedRun

SCHEMA = CompareConfig


@dataclass(frozen=True)
class Contest:
    """Two runs as they are called in the tables: the one in question, and the one it is measured against."""

    runs: dict[str, TrackedRun]

    @classmethod
    def of(cls, first: TrackedRun, second: TrackedRun) -> "Contest":
        """Name each by its family, and by its id besides where that does not tell them apart."""
        if first.run_id == second.run_id:
            raise UserError(f"runs: both are run {first.run_id}; there is nothing to compare")
        families = [run.tags[FAMILY] for run in (first, second)]
        alike = families[0] == families[1]
        names = [f"{f} {run.run_id[:8]}" if alike else f for f, run in zip(families, (first, second), strict=True)]
        return cls(dict(zip(names, (first, second), strict=True)))

    @property
    def names(self) -> tuple[str, str]:
        first, second = self.runs
        return first, second

    def judge(self, prepared: Prepared, protocol: ProtocolConfig) -> dict[str, Any]:
        """The content of metrics.json: rows of the first carry the paired difference to the second.

        Raises:
            UserError: when they have no task in common.
        """
        models = {name: load_model(run.file(MODEL_FILE)) for name, run in self.runs.items()}
        (_, subject), (rival, other) = models.items()
        if not set(subject.tasks) & set(other.tasks):
            raise UserError(f"runs: one ranks {', '.join(subject.tasks)}, the other {', '.join(other.tasks)}")
        metrics = judge_tasks(prepared, models, protocol, [rival])
        metrics["tasks"] = {task: found for task, found in metrics["tasks"].items() if task in other.tasks}
        return metrics | {"outcomes": {}, "depth": []}  # runs are compared by their rankings


def run(config: CompareConfig) -> None:
    prepared = Prepared.read(config.prepared)
    store = Store(config.tracking)
    first, second = (chosen(store, name, prepared) for name in config.runs)
    contest = Contest.of(first, second)
    print(f"comparing {' with '.join(f'{name} (run {found.run_id})' for name, found in contest.runs.items())}")
    metrics = contest.judge(prepared, config.protocol)
    for task in metrics["tasks"]:
        print("\n" + comparison_text(metrics, *contest.names, task=task) + "\n")
    if config.output is not None:
        print(f"report: {write(metrics, config, contest.runs, prepared)}")


def chosen(store: Store, name: str, prepared: Prepared) -> TrackedRun:
    """The run of that id, `best`, or the best one of a family.

    Raises:
        UserError: when there is none, or it is a refit, which has seen the test split.
    """
    found = best_of(store, name, prepared) or store.find(name, dataset_hash=prepared.content_hash)
    if found.tags.get(REFIT_OF):
        raise UserError(f"run={found.run_id} is a refit: it has seen the test split; compare {found.tags[REFIT_OF]}")
    return found


def write(metrics: dict[str, Any], config: CompareConfig, runs: Mapping[str, TrackedRun], prepared: Prepared) -> Path:
    """metrics.json and report.html in the form of `evaluate`."""
    ids = [run.run_id for run in runs.values()]
    command = f"shopkeeper compare prepared={config.prepared} run={ids[0]} run={ids[1]} output={config.output}"
    facts = {"command": command, "dataset": prepared.content_hash} | {
        name: f"run {r.run_id}" for name, r in runs.items()
    }
    return write_report(
        metrics | {"version": __version__},
        Path(str(config.output)),
        title=f"{prepared.manifest['source']}: {' against '.join(runs)}",
        facts=facts,
        drops=drops(prepared),
        curves={},
    )[1]
