"""shopkeeper export: a finished run -> a bundle."""

from dataclasses import fields
from pathlib import Path

from shopkeeper.config import DepthConfig, ExportConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.bundle import write_bundle
from shopkeeper.export.card import Origin
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
    judged = store.get(refit_of or chosen.run_id)  # a refit is not judged
    names = [field.name for field in fields(DepthConfig) if f"depth/{field.name}" in judged.params]
    rates = {name: float(judged.params[f"depth/{name}"]) for name in names}
    output = write_bundle(
        load_model(chosen.file(MODEL_FILE)),
        prepared,
        Path(config.output),
        origin=Origin(chosen.run_id, refit_of, judged.metrics, rates),
        golden=config.golden,
        seed=config.seed,
    )
    print(f"bundle: {output}")
