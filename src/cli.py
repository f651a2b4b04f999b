"""The console command: `shopkeeper <command> key=value ...`; each command is a Hydra application.

Nothing heavy is imported before a command is chosen, so that `shopkeeper --help` answers at once.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from omegaconf import DictConfig

COMMANDS = {
    "inspect": "look at a log, and propose the YAML that prepare reads it with",
    "prepare": "turn a raw log into a prepared dataset",
    "audit": "check a prepared dataset for leaks, and draw what kind of data it is",
    "train": "fit a model, resume a run, or refit a finished one on everything",
    "tune": "search the values of one family or several under one budget",
    "evaluate": "judge a run on test strangers beside the baselines, and write the report",
    "compare": "tell whether one run beats another on the same test strangers",
    "export": "turn a finished run into a bundle",
    "predict": "answer a file of histories from a bundle",
    "sync": "deliver what runs kept while their tracking server was away",
    "demo": "all of it on dunnhumby's Complete Journey, ending with a served answer",
    "forget": "take a person out of prepared datasets, and tell what was trained with them",
    "doctor": "tell what is installed, which device is used and what is missing",
}

USAGE = """\
usage: shopkeeper <command> [key=value ...]

{commands}

Every command is a Hydra application: --help lists its keys, --cfg job prints its config, -m sweeps over values.
  shopkeeper demo output=demo
  shopkeeper inspect shop.csv
  shopkeeper prepare data=events data.events=events.parquet output=prepared/mine
  shopkeeper train prepared=prepared/mine
Serve a bundle with: shopkeeper-serve bundles/mine --port 8080
"""

QUIET = [
    "hydra.run.dir=.",
    "hydra.sweep.dir=multirun",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]
"""Hydra writes no log files, and no folder but a sweep's: outputs are named in each command's config."""

GATHERED = {"compare": ("run", "runs"), "tune": ("model", "models")}
"""Commands that take several of what others take one of, under its usual name."""

VALUE_FLAGS = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands="\n".join(f"  {name:<10}{what}" for name, what in COMMANDS.items())))
        return
    if arguments[0] == "--version":
        from shopkeeper import __version__

        print(f"shopkeeper {__version__}")
        return
    if arguments[0] not in COMMANDS:
        fail(f"unknown command {arguments[0]!r}; commands are: {', '.join(COMMANDS)}")
    execute(arguments[0], arguments[1:])


def execute(command: str, arguments: list[str]) -> None:
    """Run one command; whatever goes wrong for a known reason is one line on stderr and exit code 2.

    A command that checks something ends with exit code 1 where it does not hold, its output made.
    """
    import importlib

    import hydra

    from shopkeeper.config import parse, with_free_keys

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us instead of being printed with a trace
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait starve a shared machine
    stage = importlib.import_module(f"shopkeeper.stages.{command}")

    def task(cfg: "DictConfig") -> None:
        with one_line_errors():
            stage.run(parse(stage.SCHEMA, cfg))

    if command == "inspect":
        arguments = with_log(arguments)
    if command in GATHERED:
        arguments = gathered(arguments, *GATHERED[command])
    # flags last: argparse takes overrides in one piece only, and --info would take the next one for its value
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    flags = [a for a in arguments if a not in overrides]
    overrides = with_free_keys(overrides)
    sys.argv = [f"shopkeeper {command}", *(QUIET if wants_run(flags) else []), *overrides, *flags]
    with one_line_errors():
        hydra.main(version_base="1.3", config_path="pkg://shopkeeper.configs", config_name=command)(task)()


def with_log(arguments: list[str]) -> list[str]:
    """The arguments of `inspect` with its bare ones, the tables to look at, as one override of `log`."""
    tables: list[str] = []
    others: list[str] = []
    takes_value = False
    for argument in arguments:
        flag = argument.startswith("-")
        override = "=" in argument.partition("://")[0] and not Path(argument).exists()
        bare = not (flag or override or takes_value or argument.startswith("~"))
        (tables if bare else others).append(argument)
        takes_value = flag and argument in VALUE_FLAGS
    return [f"log=[{','.join(map(quoted, tables))}]", *others] if tables else others


def gathered(arguments: list[str], key: str, into: str) -> list[str]:
    """The arguments with `key=A key=B` as one override of the list `into`, since Hydra keeps the last of a key."""
    values = [argument.removeprefix(f"{key}=") for argument in arguments if argument.startswith(f"{key}=")]
    others = [argument for argument in arguments if not argument.startswith(f"{key}=")]
    return [f"{into}=[{','.join(values)}]", *others] if values else others


def quoted(path: str) -> str:
    """A path as a string of Hydra's grammar, in which a quote or a final backslash is escaped."""
    escaped = path.replace('"', '\\"')
    return f'"{escaped}{chr(92) if escaped.endswith(chr(92)) else ""}"'


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and an exit code; anything else keeps its trace, as a bug should."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from shopkeeper.config import CheckFailed, UserError

    try:
        yield
    except CheckFailed as error:
        fail(str(error), code=1)
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(f"config: {' '.join(line.strip() for line in str(error).splitlines()[:2])}")
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    except MemoryError:
        fail("out of memory: lower batches.tokens, or for prepare memory_limit")
    except OSError as error:
        fail(f"{error.filename2 or error.filename or 'input/output'}: {error.strerror or error}")


def wants_run(arguments: list[str]) -> bool:
    """False where Hydra only prints its help, which takes no overrides."""
    return not any(a in ("--help", "-h", "--hydra-help") for a in arguments)


def fail(message: str, *, code: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
