"""shopkeeper audit: leaks and sanity of a prepared dataset -> audit.html and audit.json; exit code 1 on a leak."""

from pathlib import Path

from shopkeeper.config import CheckFailed
from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate.audit import audit, write_audit
from shopkeeper.evaluate.checks import leaks_of
from shopkeeper.evaluate.settings import AuditConfig

SCHEMA = AuditConfig


def run(config: AuditConfig) -> None:
    """Print a line per check and write the page.

    Raises:
        CheckFailed: when a check found a leak, after everything is written.
    """
    prepared = Prepared.read(config.prepared)
    checks = audit(prepared, config)
    for check in checks:
        print(check.line)
    _, page = write_audit(checks, Path(config.output), title=prepared.manifest["source"], facts=facts(prepared, config))
    print(f"audit: {page}")
    leaks = leaks_of(checks)
    if leaks:
        raise CheckFailed(f"{len(leaks)} of {len(checks)} checks found a leak: {'; '.join(leaks)}")


def facts(prepared: Prepared, config: AuditConfig) -> dict[str, str]:
    """What a reader needs to repeat or doubt the page."""
    counts, cuts = prepared.manifest["counts"], prepared.manifest["cuts"]
    return {
        "command": f"shopkeeper audit prepared={config.prepared} seed={config.seed} output={config.output}",
        "dataset": prepared.content_hash,
        "events": f"{counts['events']:,} of {counts['visitors']:,} visitors",
        "items": f"{counts['items']:,}, of which {counts['items_known']:,} were known in train",
        "train": f"from {cuts['start']} until {cuts['val_start']}",
        "validation": f"until {cuts['test_start']}",
        "test": f"until {cuts['end']}",
        "a step": "all purchases of one trip" if prepared.order_only else "one event",
        "held out": "users whose history before their split nobody sees" if prepared.manifest["holdout"] else "nobody",
    }
