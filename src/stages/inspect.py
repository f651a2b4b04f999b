"""shopkeeper inspect: a log in any form -> a proposal of the YAML that prepare reads it with."""

import sys
from pathlib import Path

from shopkeeper.inspection.log import check_place, inspect_log
from shopkeeper.inspection.settings import InspectConfig

SCHEMA = InspectConfig


def run(config: InspectConfig) -> None:
    output = Path(config.output) if config.output else None
    if output is not None:
        check_place(output)
    proposal = inspect_log(config)
    for warning in proposal.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if output is None:
        print(proposal.text, end="")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(proposal.text, encoding="utf-8")
    print(f"proposal: {output}")
