"""MODEL_CARD.md: what a bundle's model is, what it saw, how it did on validation, what it must not be used for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shopkeeper import __version__
from shopkeeper.data import schema as s
from shopkeeper.data.prepared import Prepared
from shopkeeper.models.baselines import CountedModel
from shopkeeper.models.contract import SessionModel


@dataclass(frozen=True)
class Origin:
    """Where a bundle's model comes from: its run, what was measured on validation, and the error rates of depth."""

    run_id: str
    refit_of: str | None
    metrics: dict[str, float]
    depth: Mapping[str, float] = field(default_factory=dict)


def model_card(model: SessionModel, prepared: Prepared, origin: Origin) -> str:
    counts = prepared.manifest["counts"]
    judged = {name: v for name, v in origin.metrics.items() if name.startswith("val/") and "/k" not in name}
    metrics = [f"| {name} | {value:.4f} |" for name, value in sorted(judged.items())]
    lines = [
        f"# {prepared.manifest['source']}: {model.family}",
        "",
        f"Ranks {model.vocabulary.num_items:,} items for {' and '.join(model.tasks)}. Trained from "
        f"{counts['events']:,} events of {counts['visitors']:,} visitors (dataset {prepared.content_hash[:12]}), "
        f"run {origin.run_id}" + (f", a refit of {origin.refit_of} on all rows and users." if origin.refit_of else "."),
        "",
        "| validation strangers | |",
        "|---|---|",
        *metrics,
        "",
        "Validation chose this model; for figures on unseen data see the report of `shopkeeper evaluate`."
        + (" They are those of the original run: a refit is not judged." if origin.refit_of else ""),
        "",
        "Scores rank; they are not probabilities. They say what visitors like this one went on to buy, not what a "
        "recommendation would change: affinity, never uplift.",
        "",
        *(outcome_lines(model, origin) if model.outcomes else []),
        f"Made {'with a model of the kind ' + type(model).__name__} by shopkeeper {__version__}. "
        f"Decay and tables: see manifest.json."
        if isinstance(model, CountedModel)
        else f"Made by shopkeeper {__version__}.",
        "",
    ]
    return "\n".join(lines)


def outcome_lines(model: SessionModel, origin: Origin) -> list[str]:
    """What is told of a visitor, how well, and what it may be used for."""
    rows = [f"| {o.name} | {', '.join(o.classes)} | {skill(o.name, origin.metrics)} |" for o in model.outcomes]
    lines = [
        "## What it tells of a visitor",
        "",
        "| outcome | classes | skill on validation |",
        "|---|---|---|",
        *rows,
        "",
        "Skill is 1 - log-loss / log-loss of the prior: 0 knows no more than how frequent each class is.",
        "",
        "A segment is an affinity, not an identity: the probability that a visitor acts like customers of that class. "
        "It says nothing of who somebody is, and decides nothing about a person.",
        "",
    ]
    return [*lines, depth_line(model, origin.depth), ""]


def skill(outcome: str, metrics: Mapping[str, float]) -> str:
    found = metrics.get(f"val/{outcome.replace(':', '.')}/skill")
    return "not known" if found is None else f"{found:.4f}"


def depth_line(model: SessionModel, rates: Mapping[str, float]) -> str:
    """At what probabilities the shop may get personal, and the error rates that these were chosen to hold."""
    if model.calibration is None:
        return "It was not calibrated: its probabilities are its own word, and everybody is answered with `welcome`."
    limits = model.calibration.depth
    named = {name.removeprefix(s.SEGMENT_PREFIX): least for name, least in limits.segments.items()}
    addressed = ", ".join(f"{name} from {least:.0%} on" for name, least in named.items() if least is not None)
    one = limits.one_to_one
    parts = [
        f"Depth `segment`: {addressed or 'nobody'}.",
        f"Depth `one_to_one`: {f'best items together from {one:.0%} on' if one is not None else 'nobody'}.",
    ]
    if rates:
        parts.append(
            f"Chosen on validation so that at most {rates['error']:.0%} of those addressed by a segment are not in it, "
            f"and at most {rates['miss']:.0%} of those served one to one want none of the best {s.SHORTLIST} items "
            f"(confidence {rates['confidence']:.0%})."
        )
    return " ".join(parts)
