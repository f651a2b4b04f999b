"""shopkeeper export: a finished run -> a bundle."""

from pathlib import Path

from shopkeeper.config import ExportConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.bundle import Origin, write_bundle
from shopkeeper.models.checkpoint import load_model
from shopkeeper.train.tracking import MODEL_FILE, REFIT_OF, Store

SCHEMA = ExportConfig


def run(config: ExportConfig) -> None:
    prepared = Prepared.read(config.prepared)
    store = Store(config.tracking)
    chosen = store.find(config.run, dataset_hash=prepared.content_hash)
    again = store.refit_of(chosen.run_id, dataset_hash=prepared.content_hash) if config.refit else None
    if again is not None:
        print(f"shipping the refit {again.run_id} of run {chosen.run_id} (refit=false ships the evaluated model)")
        chosen = again
    refit_of = chosen.tags.get(REFIT_OF)
    metrics = store.get(refit_of or chosen.run_id).metrics  # a refit is not judged
    output = write_bundle(
        load_model(chosen.file(MODEL_FILE)),
        prepared,
        Path(config.output),
        origin=Origin(chosen.run_id, refit_of, metrics),
        golden=config.golden,
        seed=config.seed,
    )
    print(f"bundle: {output}")
