"""The one number runs are chosen by, how well a model ranks the next purchase of validation strangers; and beside it
how much better than the prior it knows their outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import yaml

from shopkeeper.config import ProtocolConfig, UserError
from shopkeeper.data import schema as s
from shopkeeper.data.examples import Examples, judged_examples, sampled, stranger_examples
from shopkeeper.data.outcomes import MASKED, Labels, Outcome
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.targets import Ragged, Targets
from shopkeeper.evaluate.judge import classify_all, judge
from shopkeeper.evaluate.metrics import per_example
from shopkeeper.models.contract import SessionModel
from shopkeeper.train.tracking import PRIMARY

FloatArray = npt.NDArray[np.float64]


def standard_protocol() -> ProtocolConfig:
    """The protocol every run is validated by: were it a setting, runs could not be compared by `val/primary`."""
    text = files("shopkeeper.configs").joinpath("protocol/default.yaml").read_text(encoding="utf-8")
    return ProtocolConfig(**yaml.safe_load(text))


@dataclass(frozen=True)
class Validation:
    """Examples of validation strangers for each task of a model; `primary` is the data's first task.

    Outcomes are judged at `moments`, a sample of all strangers after each of `ks` steps, by their `labels`.
    """

    prepared: Prepared
    examples: dict[str, tuple[Examples, Ragged]]
    cutoff: int
    primary: str
    ks: list[int]
    moments: Examples
    labels: dict[str, IntArray]

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        tasks: list[str],
        protocol: ProtocolConfig,
        *,
        primary: str,
        outcomes: Sequence[Outcome] = (),
    ) -> "Validation":
        """Gather the examples.

        Raises:
            UserError: when a task has nothing to judge at k >= 1: no run could be chosen.
        """
        targets = Targets(prepared)
        examples = {}
        for task in tasks:
            found = judged_examples(
                prepared, targets, task, s.STRANGERS, s.VAL, ks=protocol.ks, at_most=protocol.max_examples
            )
            if not (found.examples.k >= 1).any():
                raise UserError(
                    f"the val split has no stranger with a target of task {task!r} after one step or more; widen it "
                    "(data.split) and prepare again, or train another head alone (task=purchase, task=next)"
                )
            examples[task] = (found.examples, found.targets)
        moments = stranger_examples(prepared, s.VAL, protocol.ks)
        moments = moments.only(sampled(len(moments), protocol.max_examples))
        lookup, at = Labels(prepared, list(outcomes)), moments.moments(prepared)
        labels = {outcome.name: lookup.of(outcome.name, at) for outcome in outcomes}
        return cls(prepared, examples, protocol.cutoff, primary, sorted(protocol.ks), moments, labels)

    def metrics(self, model: SessionModel) -> dict[str, float]:
        """ndcg of each task, pooled over k >= 1 and per k: `val/<task>/ndcg_at_20`, `.../k1`; and skill of outcomes.

        `val/primary` is the pooled one of the data's primary task, absent for a model without that head.
        """
        return self.summary({task: self.judge(model, task) for task in self.examples}) | self.skills(model)

    def judge(self, model: SessionModel, task: str, chosen: npt.ArrayLike | None = None) -> IntArray:
        """Rank of every target of the task; with `chosen`, of the targets of these examples."""
        examples, targets = self.examples[task]
        if chosen is not None:
            examples, targets = examples.only(chosen), targets.only(chosen)
        return judge(model, self.prepared, examples, targets, task=task)

    def pooled(self, task: str, ranks: IntArray) -> float:
        """Mean ndcg over k >= 1."""
        return self.told({task: self.sums(task, ranks)})[self.name(task)]

    def summary(self, ranks: Mapping[str, IntArray]) -> dict[str, float]:
        """What `metrics` returns of rankings, from the ranks of each task's targets."""
        return self.told({task: self.sums(task, ranks[task]) for task in self.examples})

    def share(self, model: SessionModel, rank: int, world: int) -> dict[str, FloatArray]:
        """`sums` of each task over the examples that are this process's to judge: of each `world`, number `rank`."""
        found = {}
        for task, (examples, _) in self.examples.items():
            chosen = np.arange(rank, len(examples), world)
            found[task] = self.sums(task, self.judge(model, task, chosen), chosen)
        return found

    def sums(self, task: str, ranks: IntArray, chosen: npt.ArrayLike | None = None) -> FloatArray:
        """Sum of the ndcg of the (chosen) examples at each k from 0, and their number (2, k)."""
        examples, targets = self.examples[task]
        k, offsets = examples.k, targets.offsets
        if chosen is not None:
            k, offsets = examples.only(chosen).k, targets.only(chosen).offsets
        values = per_example(ranks, offsets, self.cutoff)[f"ndcg@{self.cutoff}"]
        size = int(examples.k.max()) + 1
        return np.stack([np.bincount(k, values, minlength=size), np.bincount(k, minlength=size)])

    def told(self, sums: Mapping[str, FloatArray]) -> dict[str, float]:
        """What `metrics` returns, from the sums of all examples."""
        found: dict[str, float] = {}
        for task, (total, count) in sums.items():
            found[self.name(task)] = float(total[1:].sum() / count[1:].sum())
            for k in np.flatnonzero(count):
                found[f"{self.name(task)}/k{k}"] = float(total[k] / count[k])
        primary = self.name(self.primary)
        return found | ({PRIMARY: found[primary]} if primary in found else {})

    def skills(self, model: SessionModel) -> dict[str, float]:
        """Skill of each outcome over the model's prior, pooled over all k and per k: `val/<outcome>/skill`, `.../k1`.

        skill = 1 - log-loss / log-loss of the prior; absent where no validation stranger is known to be of a class.
        """
        found: dict[str, float] = {}
        said = classify_all(model, self.prepared, self.moments) if model.outcomes else []
        for outcome, answered, prior in zip(model.outcomes, said, model.outcome_priors(), strict=True):
            label = self.labels[outcome.name]
            known = np.flatnonzero(label != MASKED)
            loss, least = -answered[known, label[known]], -prior.cpu().numpy()[label[known]]
            name, k = f"val/{outcome.name.replace(':', '.')}/skill", self.moments.k[known]
            if len(known):
                found[name] = float(1 - loss.mean() / least.mean())
            for each in np.unique(k):
                found[f"{name}/k{each}"] = float(1 - loss[k == each].mean() / least[k == each].mean())
        return found

    def mean(self, metrics: Mapping[str, float]) -> float:
        """Mean over tasks of the pooled ndcg in what `metrics` returned."""
        pooled = [metrics[self.name(task)] for task in self.examples]
        return sum(pooled) / len(pooled)

    def name(self, task: str) -> str:
        """MLflow allows no @ in names."""
        return f"val/{task}/ndcg_at_{self.cutoff}"
