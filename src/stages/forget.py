"""shopkeeper forget: take a person out of prepared datasets, and tell which runs and bundles learned from them."""

import json
from pathlib import Path

from shopkeeper.config import ForgetConfig
from shopkeeper.data.forget import Forgotten, forget
from shopkeeper.train.tracking import FAMILY, REFIT_OF, Store, TrackedRun

SCHEMA = ForgetConfig


def run(config: ForgetConfig) -> None:
    store = Store(config.tracking)
    learned: list[TrackedRun] = []
    for prepared in config.prepared:
        gone = forget(prepared, config.user)
        print(f"{prepared}: {gone.rows:,} events of {gone.sessions:,} sessions removed")
        learned += learned_from(store, gone)
    bundles = bundles_of({run.run_id for run in learned}, Path(config.bundles))
    report("runs", [f"{run.run_id} ({run.tags.get(FAMILY, 'unknown model')})" for run in learned])
    report("bundles", [str(folder) for folder in bundles])
    print("take the person out of the log too, or the next prepare brings them back")
    print(f"forgotten in: {', '.join(config.prepared)}")


def learned_from(store: Store, gone: Forgotten) -> list[TrackedRun]:
    """Runs on the dataset whose training rows held the person; a refit trains on all rows."""
    runs = store.on_datasets(gone.hashes)
    return [run for run in runs if gone.in_train or REFIT_OF in run.tags]


def bundles_of(run_ids: set[str], place: Path) -> list[Path]:
    """Bundles below a folder that were made of one of the runs."""
    found = []
    for file in sorted(place.rglob("manifest.json")) if place.is_dir() else []:
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # not a manifest of ours
        if isinstance(manifest, dict) and manifest.get("run_id") in run_ids:
            found.append(file.parent)
    return found


def report(what: str, names: list[str]) -> None:
    if names:
        print(f"{what} trained with this person, to be trained anew and replaced:")
        for name in names:
            print(f"  {name}")
    else:
        print(f"no {what} were trained with this person")
