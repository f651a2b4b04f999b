"""shopkeeper prepare: a raw log -> a prepared dataset."""

from shopkeeper.data.outcomes import supported_outcomes
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import set_aside, train_window

SCHEMA = PrepareConfig


def run(config: PrepareConfig) -> None:
    prepared = prepare(config)
    describe(prepared)
    print(f"prepared dataset: {prepared.path}")


def describe(prepared: Prepared) -> None:
    """Say what came in, what was left out and why, and what can be predicted from the rest."""
    counts, manifest = prepared.manifest["counts"], prepared.manifest
    print(
        f"{counts['events']:,} events, {counts['sessions']:,} sessions, {counts['visitors']:,} visitors, "
        f"{counts['items']:,} items; content hash {prepared.content_hash[:12]}"
    )
    for note in manifest["notes"]:
        print(f"note: {note}")
    print_account("rows dropped", {**manifest["dropped"], "in all": counts["rows_dropped"]}, of=counts["rows_in"])
    print_account("events kept for a refit, left out of evaluation", set_aside(prepared), of=counts["events"])
    cuts = manifest["cuts"]
    held = " and held-out users" if manifest["holdout"] else ""
    print(
        f"train until {cuts['val_start']}, val until {cuts['test_start']}, test until {cuts['end']}; "
        f"strangers: new{held}"
    )
    tasks, left_out = supported_tasks(prepared, train_window(prepared))
    print(f"predictable: {', '.join(tasks) or 'nothing'}" + "".join(f"; no {t}: {why}" for t, why in left_out.items()))
    outcomes, left_out = supported_outcomes(prepared, train_window(prepared))
    for outcome in outcomes:
        print(f"outcome {outcome.name}: {', '.join(outcome.classes)}")
    for name, why in left_out.items():
        print(f"no outcome {name}: {why}")


def print_account(title: str, counts: dict[str, int], *, of: int) -> None:
    print(f"{title} (of {of:,}):")
    for reason, count in counts.items():
        print(f"  {count:>12,}  {reason}")
