"""shopkeeper demo: the whole flow on real data, from the raw log to a served answer; what is still valid is reused."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopkeeper.config import DemoConfig, EvaluateConfig, ExportConfig, TrainConfig, UserError, configure
from shopkeeper.data import schema as s
from shopkeeper.data.examples import stranger_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.evaluate.report import METRICS_FILE, REPORT_FILE
from shopkeeper.export.parity import raw_histories
from shopkeeper.stages import evaluate, export, prepare
from shopkeeper.train.fit import train
from shopkeeper.train.record import config_hash
from shopkeeper.train.tracking import Store, TrackedRun

if TYPE_CHECKING:
    from shopkeeper_serving.schemas import Event

SCHEMA = DemoConfig
SHOWN = 5
"""Items, or classes, of the served answer that are printed."""
REASONS = 2
"""Influences on a segment that are printed."""


def run(config: DemoConfig) -> None:
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    title("1/5 prepare")
    asked = [f"data={config.log}", f"output={output / 'prepared'}", *config.prepare]
    prepare.run(configure("prepare", PrepareConfig, *asked))
    prepared = Prepared.read(output / "prepared")
    title("2/5 train")
    runs = [trained(name, overrides, prepared, output) for name, overrides in config.models.items()]
    title("3/5 evaluate")
    metrics = evaluated(runs[-1], config, prepared, output)
    title("4/5 export")
    exported(prepared, output)
    title("5/5 serve")
    with service(output / "bundle") as url:
        ask(url, prepared, config.request_steps)
    title(f"done in {time.monotonic() - began:.0f} s")
    evaluate.print_tables(metrics)
    print(f"report:  {output / 'report' / REPORT_FILE}")
    print(f"runs:    {program('mlflow')} ui --backend-store-uri {tracking_uri(output)}")
    print(f"serve:   {program('shopkeeper-serve')} {output / 'bundle'} --port 8080")
    print(f"bundle: {output / 'bundle'}")


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def program(name: str) -> str:
    """What to type to start a program of this environment: its name where the shell finds it, else its path."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name)
    return name if found and Path(found).samefile(beside) else os.path.relpath(beside)


def tracking_uri(output: Path) -> str:
    return f"sqlite:///{output / 'mlruns.db'}"


def tracking_overrides(output: Path) -> list[str]:
    """Keep the demo's runs inside its own folder."""
    return [
        f"tracking.uri={tracking_uri(output)}",
        f"tracking.artifacts={output / 'mlartifacts'}",
        f"tracking.runs_dir={output / 'runs'}",
    ]


def trained(model: str, overrides: list[str], prepared: Prepared, output: Path) -> TrackedRun:
    """The finished run of this configuration: found, resumed where it was cut off, or trained now."""
    arguments = [f"prepared={prepared.path}", f"model={model}", *tracking_overrides(output), *overrides]
    config = configure("train", TrainConfig, *arguments)
    store = Store(config.tracking)
    done, cut_off = store.same_as(dataset_hash=prepared.content_hash, config_hash=config_hash(config))
    if done is not None:
        print(f"reusing run {done.run_id}: {model}, same data and config")
        return done
    config.resume = cut_off.run_id if cut_off is not None else None
    return train(config)


def evaluated(subject: TrackedRun, config: DemoConfig, prepared: Prepared, output: Path) -> dict[str, Any]:
    """The content of metrics.json, of a report on this run that stands already or is made now."""
    folder = output / "report"
    arguments = [f"prepared={prepared.path}", f"run={subject.run_id}", f"output={folder}"]
    asked = configure("evaluate", EvaluateConfig, *arguments, *tracking_overrides(output), *config.evaluate)
    if evaluate.is_current(folder, asked, prepared, subject):
        print(f"reusing {folder}: same run, same protocol")
        return dict(json.loads((folder / METRICS_FILE).read_text(encoding="utf-8")))
    metrics, report = evaluate.make_report(asked)
    print(f"report: {report}")
    return metrics


def exported(prepared: Prepared, output: Path) -> None:
    """Export the best run, unless the bundle of that run is already there and whole."""
    from shopkeeper_serving.bundle import BundleError, read_bundle

    folder = output / "bundle"
    arguments = [f"prepared={prepared.path}", "run=best", f"output={folder}", *tracking_overrides(output)]
    config = configure("export", ExportConfig, *arguments)
    best = Store(config.tracking).find("best", dataset_hash=prepared.content_hash)
    try:
        if read_bundle(folder).manifest.run_id == best.run_id:
            print(f"reusing {folder}: the bundle of the best run, {best.run_id}")
            return
    except BundleError:
        pass  # not there, or damaged: made anew
    print(f"best on validation: run {best.run_id}, val/primary {best.metrics['val/primary']:.4f}")
    export.run(config)


@contextmanager
def service(bundle: Path) -> Iterator[str]:
    """shopkeeper-serve on a free port, as a process of its own; yields its address and stops it in the end."""
    command = [sys.executable, "-m", "shopkeeper_serving.cli", str(bundle), "--port", "0"]
    print(f"$ shopkeeper-serve {shlex.quote(str(bundle))} --port 0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()  # ends with the address once it is ready, or is empty
            if "http://" not in line:
                raise UserError(f"the service did not start; try: shopkeeper-serve {bundle}")
            print(line)
            yield line[line.index("http://") :]
        finally:
            process.terminate()


def ask(url: str, prepared: Prepared, steps: int) -> None:
    """Send a validation stranger's first steps and print what the service answers."""
    import msgspec

    examples = stranger_examples(prepared, s.VAL, list(range(steps + 1)))
    furthest = int(examples.k.argmax())  # as far as a stranger went, up to `steps`
    steps = int(examples.k[furthest])
    (events,) = raw_histories(prepared, examples.only([furthest]))
    body = msgspec.json.encode({"events": events, "k": SHOWN, "explain": True})
    request = urllib.request.Request(
        f"{url}/v1/predict", data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    print(f"$ POST /v1/predict: a stranger's first {steps} steps, {len(events)} events")
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    titles = prepared.items_frame().set_index(s.ITEM)
    for task, items in answer["items"].items():
        for item in items:
            print(f"  {task} {item['rank']}. {item['item_id']:<12} {item['score']:8.3f}  {describe(titles, item)}")
        if task in answer["sets"]:
            print(f"  {task}: 90% sure that one of the best {answer['sets'][task]:,} items follows")
    for line in outcome_lines(answer, events):
        print(f"  {line}")


def outcome_lines(answer: dict[str, Any], events: list["Event"]) -> Iterator[str]:
    """What the answer says of the visitor, in words; nothing of what the model does not tell."""
    for name, classes in answer["segments"].items():
        reasons = [reason(influence, events) for influence in answer["explanation"][name]["influences"][:REASONS]]
        yield f"{name}: {shares(classes)}" + (f"  [{'; '.join(reasons)}]" if reasons else "")
    if answer["intent"] is not None:
        yield f"a purchase in this session: {answer['intent']:.0%}"
    if answer["phase"] is not None:
        yield f"next phase: {shares(answer['phase'])}"
    if answer["depth"] is not None:
        named = [f"{name} {value}" for name, value in answer["address_as"].items()]
        yield f"depth: {answer['depth']}" + (f", may be addressed as {', '.join(named)}" if named else "")


def shares(classes: dict[str, float]) -> str:
    """The likeliest classes first."""
    best = sorted(classes.items(), key=lambda pair: -pair[1])[:SHOWN]
    return ", ".join(f"{name} {probability:.0%}" for name, probability in best)


def reason(influence: dict[str, Any], events: list["Event"]) -> str:
    """What an influence is about: a column of context, or what happened and to which item."""
    if influence["context"] is not None:
        what = influence["context"]
    else:
        event = events[influence["event"]]
        what = f"{event.event} {event.item_id}" if event.item_id else event.event
    return f"{what} {influence['change']:+.1%}"


def describe(titles: Any, item: dict[str, Any]) -> str:
    """Category, title and brand, where the catalogue has them; a title that repeats its category is left out."""
    words: list[str] = []
    for value in (titles.loc[item["item_id"]][c] for c in (s.CATEGORY, s.TITLE, s.BRAND)):
        if isinstance(value, str) and not any(value in word for word in words):
            words.append(value)
    return ", ".join(words)
