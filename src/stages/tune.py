"""shopkeeper tune: search the values of one family or several under one budget -> experiments and a report."""

from contextlib import closing
from pathlib import Path

from shopkeeper.train.settings import TuneConfig
from shopkeeper.train.study_report import write_study
from shopkeeper.train.tune import Tuning

SCHEMA = TuneConfig


def run(config: TuneConfig) -> None:
    with closing(Tuning.of(config)) as tuning:
        try:
            tuning.work()
        except KeyboardInterrupt:
            print(f"stopped: the same command goes on with study {config.study}")
            report(tuning)
            raise
        report(tuning)


def report(tuning: Tuning) -> None:
    """Write what the study has come to, and print what runs the best again."""
    commands = tuning.experiments()
    for family, command in commands.items():
        print(f"best {family}: {command}")
    page = write_study(tuning.facts(), Path(tuning.config.output), study=tuning.config.study, commands=commands)
    print(f"report: {page}")
