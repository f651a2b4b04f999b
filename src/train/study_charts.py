"""Pictures of a study, from the plain data of its report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shopkeeper.evaluate.charts import COLOURS, MARKERS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Facts = Mapping[str, Any]


def complete(facts: Facts) -> list[dict[str, Any]]:
    """The trials that have a value."""
    return [trial for trial in facts["trials"] if trial["value"] is not None]


def history_figure(facts: Facts) -> "Figure":
    """The value of each trial, where the pruned ones ended, and the best so far."""
    figure, axes = new_figure(xlabel="trial", ylabel="val/primary")
    done = complete(facts)
    numbers, values = [t["number"] for t in done], [t["value"] for t in done]
    pruned = [t for t in facts["trials"] if t["state"] == "pruned" and t["epochs"]]
    axes.scatter(numbers, values, color=COLOURS[0], marker=MARKERS[0], label="complete")
    if pruned:
        where = [t["number"] for t in pruned], [max(t["epochs"]) for t in pruned]
        axes.scatter(*where, color=COLOURS[1], marker=MARKERS[5], label="pruned, its best epoch")
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=COLOURS[2], label="best so far")
    axes.legend(frameon=False)
    return figure


def importance_figure(facts: Facts) -> "Figure":
    """A bar for each parameter, the most important on top."""
    figure, axes = new_figure(xlabel="importance", ylabel="")
    shares = sorted(facts["importance"].items(), key=lambda pair: pair[1])
    axes.barh([name for name, _ in shares], [share for _, share in shares], color=COLOURS[0])
    return figure


def parallel_figure(facts: Facts) -> "Figure":
    """A line for each complete trial through its values, the better the darker."""
    figure, axes = new_figure(xlabel="", ylabel="lowest to highest value tried")
    done = sorted(complete(facts), key=lambda trial: float(trial["value"]))
    keys = [parameter["key"] for parameter in facts["space"]]
    places = np.array([[place(trial["params"], parameter) for parameter in facts["space"]] for trial in done])
    low, high = places.min(axis=0), places.max(axis=0)
    heights = np.where(high > low, (places - low) / np.where(high > low, high - low, 1.0), 0.5)  # (trials, parameters)
    for rank, (height, trial) in enumerate(zip(heights, done, strict=True), start=1):
        best = trial["number"] == facts["best"]
        shade = 0.1 + 0.5 * rank / len(done)
        axes.plot(
            range(len(keys)),
            height,
            color=COLOURS[1] if best else COLOURS[0],
            alpha=1.0 if best else shade,
            linewidth=2.4 if best else 1.2,
            label="best trial" if best else None,
        )
    axes.set_xticks(range(len(keys)), keys, rotation=30, ha="right")
    axes.set_yticks([])
    for at in range(len(keys)):
        tried = [trial["params"][keys[at]] for trial in done]
        axes.annotate(
            short(tried[int(places[:, at].argmin())]), (at, 0), (0, -9), textcoords="offset points", ha="center"
        )
        axes.annotate(
            short(tried[int(places[:, at].argmax())]), (at, 1), (0, 4), textcoords="offset points", ha="center"
        )
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def place(params: Mapping[str, Any], parameter: Facts) -> float:
    """Where a value stands on its axis: its logarithm where that is searched, the number of its choice."""
    value = params[parameter["key"]]
    if parameter["type"] == "choice":
        return float(list(parameter["values"]).index(value))
    return float(np.log(value)) if parameter["log"] else float(value)


def short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def time_figure(facts: Facts) -> "Figure":
    """Seconds of each trial that ended by itself, coloured by how it ended."""
    figure, axes = new_figure(xlabel="trial", ylabel="seconds")
    for number, state in enumerate(("complete", "pruned", "failed")):
        trials: Sequence[Mapping[str, Any]] = [t for t in facts["trials"] if t["state"] == state]
        if trials:
            axes.bar([t["number"] for t in trials], [t["seconds"] for t in trials], color=COLOURS[number], label=state)
    axes.legend(frameon=False)
    return figure
