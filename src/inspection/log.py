"""Look at a log that nobody has described, and propose the YAML that `prepare` reads it with."""

import re
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.settings import CsvConfig
from shopkeeper.data.tables import files_of, is_database, kind_of, open_table, reading
from shopkeeper.inspection.feeds import Feed, Seen, propose_feed
from shopkeeper.inspection.gaps import BINS, round_minutes, share_beyond, valley
from shopkeeper.inspection.looks import Look, look_at
from shopkeeper.inspection.proposal import MISSING, Entry, Proposal, remark, render
from shopkeeper.inspection.roles import words_of
from shopkeeper.inspection.settings import InspectConfig
from shopkeeper.inspection.sides import Side, side_of
from shopkeeper.inspection.times import clock_of_json

SHARED = ("columns", "constants", "event_names", "time_unit", "time_format", "csv")
"""Keys that stand on top where all event tables say the same."""

SEPARATORS = ",;\t|"
SESSION_GAP, RECEIPT_GAP = 30, 60
"""Minutes, as in configs/data/events.yaml."""


def inspect_log(config: InspectConfig) -> Proposal:
    """Propose a data configuration for the tables of `config.log`.

    Raises:
        UserError: when a table is not there, holds no rows or cannot be read.
    """
    with TemporaryDirectory() as folder:
        engine = DuckDB(Path(folder))
        try:
            seen = [look_into(engine, path, config) for path in config.log]
            with reading(*config.log):
                return propose(with_names(seen), config)
        finally:
            engine.close()


def look_into(engine: DuckDB, path: str, config: InspectConfig) -> Seen:
    """Open a table, whatever its encoding, and look at the columns of rows spread evenly over it."""
    is_csv = not is_database(path) and kind_of(files_of(path, "log")[0]) == "csv"
    for csv in encodings(path, config.csv) if is_csv else [config.csv]:
        try:
            with reading(path):
                table = open_table(engine, path, "log", csv).drop(s.ROW)
                rows = int(table.count().execute())
                sample = engine.store(ibis.util.gen_name("sample"), spread(table, rows, config.sample))
            break
        except UserError as error:
            failed = error
    else:
        raise explained(path, failed) if is_csv else failed
    if not rows:
        raise UserError(f"log: {path} holds no rows")
    if is_csv and csv.separator is None:
        csv = replace(csv, separator=separator_of(engine, files_of(path)[0], csv.encoding))
    with reading(path):
        looks = look_at(sample, forms=config.time_formats, max_values=config.max_values)
    if not is_database(path) and kind_of(files_of(path)[0]) == "json":
        looks = [with_json_clock(engine, path, look, config.sample) for look in looks]
    return Seen(path, "", table, sample, rows, int(sample.count().execute()), looks, csv if is_csv else None)


def with_json_clock(engine: DuckDB, path: str, look: Look, rows: int) -> Look:
    """The look of a column of JSON lines; whether its times had an offset is seen in the file alone."""
    if look.kind != "time" or look.clock is None:
        return look
    names = [str(file) for file in files_of(path)]
    text = engine.con.read_json(names, columns={look.name: "VARCHAR"}).limit(rows)[look.name]
    return replace(look, clock=clock_of_json(text, look.clock))


def encodings(path: str, csv: CsvConfig) -> list[CsvConfig]:
    """The encodings to try: that of the mark that a file begins with, else UTF-8 and then Latin-1."""
    if csv.encoding != "utf-8":
        return [csv]
    with unpacked(files_of(path)[0]) as file:
        marked = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    return [replace(csv, encoding=encoding) for encoding in (["utf-16"] if marked else ["utf-8", "latin-1"])]


def unpacked(file: Path) -> IO[bytes]:
    import gzip

    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]  # read alike


def explained(path: str, error: UserError) -> UserError:
    """Why a CSV file cannot be read, where that can be told: its encoding, or a row of another length."""
    if "not latin-1 encoded" in str(error):
        return UserError(
            f"log: {path} is neither UTF-8 nor Latin-1, perhaps Windows-1252; convert it: iconv -f cp1252 -t utf-8"
        )
    for file in files_of(path):
        ragged = ragged_row(file)
        if ragged:
            return UserError(f"log: {file} cannot be read: {ragged}; mend or remove the row")
    return error


def ragged_row(file: Path) -> str:
    """The first row with more or fewer fields than the header; "" where all have as many. Only after a failure."""
    import csv

    with unpacked(file) as raw:
        lines = (line.decode("latin-1") for line in raw)
        try:
            header = next(lines, "")
            separator = max(SEPARATORS, key=header.count)
            wanted = len(next(csv.reader([header], delimiter=separator), []))
            for number, fields in enumerate(csv.reader(lines, delimiter=separator), start=2):
                if fields and len(fields) != wanted:
                    return f"row {number:,} has {len(fields)} fields, the header {wanted}"
        except (csv.Error, OSError, EOFError):
            return ""
    return ""


def separator_of(engine: DuckDB, file: Path, encoding: str) -> str | None:
    """What the engine finds to stand between the fields; None where it finds nothing."""
    import duckdb

    try:
        query = "select Delimiter from sniff_csv(?, encoding=?, all_varchar=true)"
        found = engine.con.con.execute(query, [str(file), encoding]).fetchone()
    except duckdb.Error:
        return None
    return str(found[0]) if found and found[0] else None


def spread(table: ir.Table, rows: int, wanted: int) -> ir.Table:
    """Every n-th row, so that about `wanted` are looked at."""
    every = -(-rows // wanted)
    if every <= 1:
        return table
    return table.mutate(looked_at=ibis.row_number()).filter(_.looked_at % every == 0).drop("looked_at")


def with_names(seen: list[Seen]) -> list[Seen]:
    """Name each table after its file, differently."""
    names: Counter[str] = Counter()
    named = []
    for table in seen:
        name = name_of(table.path)
        names[name] += 1
        named.append(replace(table, name=name if names[name] == 1 else f"{name}_{names[name]}"))
    return named


def name_of(path: str) -> str:
    """`logs/train-views.csv.gz` -> train_views; a glob is named by its folder, a database table by itself."""
    if is_database(path):
        stem = path.rpartition("::")[2]
    else:
        place = Path(path)
        stem = place.parent.name if any(sign in place.name for sign in "*?[") else place.name.split(".")[0]
    words = words_of(stem)
    return "_".join(words) if words and words[0][0].isalpha() and "".join(words).isascii() else "log"


def propose(seen: list[Seen], config: InspectConfig) -> Proposal:
    """Sort the tables into events, items and users, and write down how each is read."""
    sides = {table.path: side for table in seen if (side := side_of(table, config))}
    feeds = [propose_feed(table, config) for table in seen if table.path not in sides]
    warnings = [warning for feed in feeds for warning in feed.warnings]
    warnings += [warning for side in sides.values() for warning in side.warnings]
    chosen: dict[str, Side] = {}
    extra: list[Entry] = []
    for side in sides.values():
        if side.kind in chosen:
            extra.append(remark(f"{side.seen.path} looks like a table of {side.kind} too: one can be given"))
            warnings.append(f"{side.seen.path} is left out: {chosen[side.kind].seen.path} has the {side.kind}")
        else:
            chosen[side.kind] = side
    if not feeds:
        warnings.append("events is not set: no event table is among the tables given")
    entries = [*time_zone(feeds), *event_entries(feeds, chosen)]
    for kind, side in chosen.items():
        entries += [Entry(kind, side.seen.path, f"{side.seen.rows:,} rows"), *side.entries]
    entries += [*gap_entries(feeds, config), *extra]
    entries = [*header(seen, config), Entry("defaults", ["events"]), *entries]
    return Proposal(render(entries), warnings)


def header(seen: list[Seen], config: InspectConfig) -> list[Entry]:
    """Where the proposal comes from, and what to do with it."""
    looked = sum(table.looked for table in seen)
    paths = ", ".join(table.path for table in seen)
    place = Path(config.output) if config.output else Path("conf/data/shop.yaml")
    folder = place.parent.parent if place.parent.name == "data" else Path("conf")
    name = place.stem
    kept = (
        "Check it"
        if place.parent.name == "data" and config.output
        else f"Check it, keep it as {folder}/data/{name}.yaml"
    )
    return [
        remark(f"Proposed by shopkeeper inspect from {paths} ({looked:,} rows looked at). {kept}, then:"),
        remark(f"  shopkeeper prepare --config-dir {folder} data={name} output=prepared/{name}"),
    ]


def event_entries(feeds: list[Feed], sides: dict[str, Side]) -> list[Entry]:
    """One event table on top; several as feeds, with what they share on top."""
    if not feeds:
        return [Entry("events", MISSING, "no event table is among the tables given"), *side_csv(sides)]
    csv = side_csv(sides)
    if len(feeds) == 1 and (not csv or csv[0].settings == feeds[0].csv or feeds[0].seen.csv is None):
        (feed,) = feeds
        own = [entry for entry in feed.entries if entry.key != "time_zone" and not (csv and entry.key == "csv")]
        return [Entry("events", feed.seen.path, f"{feed.seen.rows:,} rows"), *own, *csv]
    shared = csv + [entry for key in SHARED if not (csv and key == "csv") for entry in shared_entry(feeds, key)]
    on_top = {entry.key: entry.settings for entry in shared}
    blocks = []
    for feed in feeds:
        own = [e for e in feed.entries if not (e.key in on_top and e.settings == on_top[e.key])]
        if "csv" in on_top and feed.seen.csv is not None and not feed.csv:
            own.append(Entry("csv", {"encoding": "utf-8"}))
        blocks.append(Entry(feed.seen.name, [Entry("events", feed.seen.path, f"{feed.seen.rows:,} rows"), *own]))
    return [*shared, Entry("feeds", blocks)]


def shared_entry(feeds: list[Feed], key: str) -> list[Entry]:
    """The entry of a key that all feeds set alike."""
    found = [entry for feed in feeds for entry in feed.entries if entry.key == key]
    alike = len(feeds) > 1 and len(found) == len(feeds) and all(e.settings == found[0].settings for e in found)
    return found[:1] if alike else []


def side_csv(sides: dict[str, Side]) -> list[Entry]:
    """How the files of items and users are written: as the log as a whole says."""
    settings: dict[str, object] = {}
    for side in sides.values():
        settings |= side.csv
    return [Entry("csv", settings, "of items and users, and of events that say nothing else")] if settings else []


def time_zone(feeds: list[Feed]) -> list[Entry]:
    """UTC, and whether that has to be checked; the zone is never guessed."""
    timed = [feed for feed in feeds if feed.clock is not None]
    naive = [feed for feed in timed if feed.clock and feed.clock.unit is None and feed.clock.offset != "all"]
    if not timed:
        return []
    if not naive:
        return [Entry("time_zone", "UTC", "the times say themselves how far from UTC they are")]
    names = "" if len(naive) == len(feeds) else " of " + ", ".join(feed.seen.name for feed in naive)
    said = f"times{names} carry no offset: set the zone of the clock that wrote them, such as Europe/Berlin"
    quiet = [
        f"least activity at {feed.quiet[0]:02d}:00-{feed.quiet[1]:02d}:00 of the clock as written"
        + (f" in {feed.seen.name}" if len(feeds) > 1 else "")
        for feed in naive
        if feed.quiet
    ]
    return [Entry("time_zone", "UTC", "; ".join([said, *quiet]))]


def gap_entries(feeds: list[Feed], config: InspectConfig) -> list[Entry]:
    """Where a visit ends, on logs whose sessions have no ids; on logs of orders, which receipts are one trip."""
    measured = [feed for feed in feeds if feed.gaps is not None]
    counts = sum((feed.gaps for feed in measured if feed.gaps is not None), np.zeros(BINS, np.int64))
    if feeds and all(feed.orders_only for feed in feeds):
        said = "order-only log: a user's receipts less than this apart are one trip"
        if counts.sum():
            said += f"; {1 - share_beyond(counts, RECEIPT_GAP):.1%} of the gaps between them are"
        return [Entry("receipt_gap_minutes", RECEIPT_GAP, said)]
    if not measured:
        return []
    found = valley(counts, config.gaps, resolution=max(feed.tick for feed in measured))
    minutes = SESSION_GAP if found is None else round_minutes(found)
    beyond = f"{share_beyond(counts, minutes):.1%} are longer"
    found_said = "show no clear valley" if found is None else f"have a valley near {found / 60:.0f} minutes"
    said = f"no session ids; the gaps between a user's events {found_said}; {beyond}"
    return [Entry("session_gap_minutes", minutes, said)]


def check_place(output: Path) -> None:
    """Refuse to write over a file, or under the name of a configuration that comes with shopkeeper."""
    if output.exists():
        raise UserError(f"output={output} exists; choose another file or remove it")
    if output.suffix not in (".yaml", ".yml") or re.search(r"[^\w-]", output.stem):
        raise UserError(f"output={output}: give a name such as conf/data/shop.yaml")
    if (files("shopkeeper.configs") / "data" / output.name).is_file():
        raise UserError(f"output={output}: data={output.stem} comes with shopkeeper; choose another name")
