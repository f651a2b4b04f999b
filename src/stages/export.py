"""shopkeeper export: a finished run -> a bundle, and where asked a version in the model registry."""

import json
from pathlib import Path
from typing import Any

from shopkeeper.config import ExportConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate.comparison import difference_of
from shopkeeper.export.bundle import Origin, write_bundle
from shopkeeper.export.champion import Decision, by_interval, figures, known_beforehand
from shopkeeper.models.checkpoint import load_model
from shopkeeper.stages.compare import Contest
from shopkeeper.stages.evaluate import evaluate
from shopkeeper.train.experiment import NOT_ITS_OWN
from shopkeeper.train.record import GIT_COMMIT
from shopkeeper.train.registry import CHAMPION, JUDGED_RUN, Registry, Version
from shopkeeper.train.tracking import (
    CONFIG_FILE,
    CONFIG_HASH,
    DATASET_HASH,
    FAMILY,
    MODEL_FILE,
    REFIT_OF,
    Store,
    TrackedRun,
)

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
    if config.register:
        register(config, prepared, bundle=output, shipped=chosen, judged=store.get(refit_of or chosen.run_id))
    print(f"bundle: {output}")


def register(
    config: ExportConfig, prepared: Prepared, *, bundle: Path, shipped: TrackedRun, judged: TrackedRun
) -> None:
    """Make the bundle a version of the registered model, and let it be champion where it deserves that."""
    name = config.register if isinstance(config.register, str) else str(prepared.manifest["source"])
    registry = Registry(judged.store, name)
    champion = registry.champion()
    metrics, subject, decision = decide(config, prepared, judged, champion)
    version = registry.register(bundle, shipped, tags=lineage(shipped, judged) | figures(metrics, subject))
    print(f"registered: version {version} of {name}")
    if decision.moves:
        registry.crown(version)
        print(f"{CHAMPION}: version {version} of {name}: {decision.why}")
    else:
        stays = f"version {champion.number} stays" if champion else "none"
        print(f"{CHAMPION}: {stays}: {decision.why}")


def decide(
    config: ExportConfig, prepared: Prepared, judged: TrackedRun, champion: Version | None
) -> tuple[dict[str, Any], str, Decision]:
    """The run's figures on test strangers, beside the champion's where the two can be compared, and what follows."""
    decision = known_beforehand(
        config.champion, champion=champion, run_id=judged.run_id, dataset_hash=prepared.content_hash
    )
    if decision is not None or champion is None:
        assert decision is not None
        family = judged.tags[FAMILY]
        return evaluate(prepared, {family: load_model(judged.file(MODEL_FILE))}, config.protocol, []), family, decision
    contest = Contest.of(judged, judged.store.get(champion.run_id))
    metrics = contest.judge(prepared, config.protocol)
    subject, rival = contest.names
    difference = difference_of(metrics, subject, rival, task=next(iter(metrics["tasks"])))
    return metrics, subject, by_interval(difference, champion)


def lineage(shipped: TrackedRun, judged: TrackedRun) -> dict[str, str]:
    """Where a version comes from: data, configuration, code, and the run that was judged."""
    tags = shipped.tags
    kept = {name: tags[name] for name in (DATASET_HASH, FAMILY, CONFIG_HASH, GIT_COMMIT, REFIT_OF) if name in tags}
    config = json.loads(shipped.file(CONFIG_FILE).read_text())
    decisive = {key: value for key, value in config.items() if key not in NOT_ITS_OWN}
    return kept | {JUDGED_RUN: judged.run_id, "shopkeeper.config": json.dumps(decisive)}
