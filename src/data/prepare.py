"""Raw log -> prepared dataset: the pipeline, written once as Ibis expressions, on the engine that was asked for."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from shopkeeper import __version__
from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.arrays import Numbered, write_dataset
from shopkeeper.data.cleaning import clean, odd_times, without_bots
from shopkeeper.data.engines import Engine, start_engine
from shopkeeper.data.identities import PERSON, find_persons, joined, joined_users
from shopkeeper.data.log import places
from shopkeeper.data.numbering import join_rows, number_items, number_sessions, number_visitors, vocabulary
from shopkeeper.data.phases import write_phases
from shopkeeper.data.prepared import FORMAT_VERSION, IDENTITIES, MANIFEST, Prepared
from shopkeeper.data.privacy import secret_of, with_pseudonyms
from shopkeeper.data.sessions import SESSION_TIME, is_order_only, with_sessions, with_visitors
from shopkeeper.data.settings import DataConfig, PrepareConfig
from shopkeeper.data.sources import Source, read_source, relabel_users
from shopkeeper.data.split import HELD_OUT, as_time, find_cuts, new_share
from shopkeeper.data.tables import reading
from shopkeeper.data.writer import content_hash, count_repeats, write_table

WORK = "work"
"""Where the engine keeps what it computes on the way, inside the folder that is being made."""

Say = Callable[[str], None]


def prepare(config: PrepareConfig, *, say: Say = print) -> Prepared:
    """Make the prepared dataset at `config.output`, or reuse it when the log and the config are unchanged.

    The folder appears whole or not at all: it is written beside its place and renamed at the end.
    """
    output = Path(config.output)
    partial = output.with_name(f"{output.name}.partial")
    clear_place(output, partial)
    engine = start_engine(config, partial / WORK)
    try:
        with reading(*places(config.data)):
            return make(engine, config, output, partial, say)
    finally:
        engine.close()
        shutil.rmtree(partial, ignore_errors=True)


def make(engine: Engine, config: PrepareConfig, output: Path, partial: Path, say: Say) -> Prepared:
    """Reuse what is at `output`, or build in `partial` and move it there."""
    source = read_source(engine, config.data)
    if source.users is not None:
        source.users = relabel_users(source.users, config.data.relabel)
    secret = secret_of(config.data.privacy)
    if secret is not None:
        with_pseudonyms(source, secret)
    key = source_key(config, source, secret)
    found = reusable(output, key)
    if found is not None:
        say(f"reusing {output}: same log, same config")
        return found
    say(f"preparing {config.data.source}: {source.rows:,} rows")
    manifest = build(engine, source, config.data, partial, say) | {"source_key": key}
    engine.close()
    shutil.rmtree(engine.folder, ignore_errors=True)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
    replace_folder(partial, output)
    return Prepared.read(output)


def clear_place(output: Path, partial: Path) -> None:
    """Clear what a killed run left behind, and refuse to write over a folder that is not ours."""
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).exists():
        raise UserError(f"output={output} exists and is not a prepared dataset; choose another folder")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def source_key(config: PrepareConfig, source: Source, secret: str | None) -> str:
    """Fingerprint of what the result depends on: config, secret, files (path, size, time of change), version."""
    files = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in source.files]
    hidden = hashlib.sha256(f"shopkeeper:{secret}".encode()).hexdigest()
    live = uuid.uuid4().hex if source.live else ""
    parts = [asdict(config.data), hidden, files, __version__, FORMAT_VERSION, live]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def reusable(output: Path, key: str) -> Prepared | None:
    """What was prepared from the same log with the same config before, if it is whole."""
    try:
        prepared = Prepared.read(output)
    except UserError:
        return None
    return prepared if prepared.manifest.get("source_key") == key else None


def replace_folder(new: Path, place: Path) -> None:
    """Put `new` at `place`; what was there goes only after the new folder is complete."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def build(engine: Engine, source: Source, config: DataConfig, folder: Path, say: Say) -> dict[str, Any]:
    """Run the pipeline and write every array; return the manifest."""
    events, dropped = clean(engine, source, config)
    events = with_persons(engine, events, source, config, folder)
    order_only = is_order_only(events)
    say("cutting sessions" + (" (order-only log: a trip is one step)" if order_only else ""))
    events = engine.store("sessioned", with_sessions(with_visitors(events), config, order_only=order_only))
    events, bots = without_bots(engine, events, config.bots)
    dropped |= bots
    cuts = find_cuts(events, config.split)
    fresh = new_share(events, cuts)
    holdout = fresh < config.split.holdout_when_new_below
    visitors = engine.store("visitors", number_visitors(events, config.split, needed=holdout))
    sessions = engine.store("sessions", number_sessions(events, visitors, source.context))
    rows = engine.store("rows", join_rows(events, visitors, sessions, cuts, order_only=order_only))
    items = engine.store("items", number_items(rows, source.items, listed=source.items_are_listed))
    entries = sessions.mutate(fitted=(_[SESSION_TIME] < as_time(cuts.val_start)) & (_[HELD_OUT] == s.TRAIN))
    vocab = {s.EVENT: vocabulary(s.EVENT, rows)} | {c: vocabulary(c, rows, entries) for c in source.context}
    say("writing arrays")
    data = Numbered(rows, sessions, visitors, items, source.users, source.context, vocab, cuts)
    counts = write_dataset(engine, folder, data)
    counts |= {"rows_in": source.rows, "rows_dropped": sum(dropped.values())}
    check_account(counts)
    write_phases(folder, config.phases, vocab[s.EVENT][0])
    return {
        "format_version": FORMAT_VERSION,
        "shopkeeper_version": __version__,
        "source": config.source,
        "config": asdict(config),
        "order_only": order_only,
        "receipt_gap_minutes": config.receipt_gap_minutes,
        "horizon_days": config.horizon_days,
        "context": source.context,
        "cuts": {name: str(moment) for name, moment in vars(cuts).items()},
        "new_share": round(fresh, 6),
        "holdout": holdout and config.split.holdout_share > 0,
        "vocab": {c: {"values": values, "known": known} for c, (values, known) in vocab.items()},
        "segments": segment_columns(source),
        "counts": counts,
        "dropped": dropped,
        "notes": source.notes + repeats(folder, config) + odd_times(events),
        "content_hash": content_hash(folder),
    }


def with_persons(engine: Engine, events: ir.Table, source: Source, config: DataConfig, folder: Path) -> ir.Table:
    """Events and users under the ids of persons, where a table says which ids are one; it is kept for `forget`."""
    if source.identities is None:
        return events
    found = find_persons(source.identities, config.identity)
    source.notes += found.notes
    person = engine.put("persons", pa.Table.from_pandas(found.person, preserve_index=False))
    write_table(engine, person.order_by(s.ALIAS).select(s.ALIAS, PERSON), folder / IDENTITIES)
    if source.users is not None:
        source.users = joined_users(source.users, person, source.notes)
    return joined(events, person)


def segment_columns(source: Source) -> list[str]:
    return [c for c in source.users.columns if c != s.USER] if source.users is not None else []


def repeats(folder: Path, config: DataConfig) -> list[str]:
    """A note on rows that say the same as another one, where these are kept."""
    count = 0 if config.drop_duplicates else count_repeats(folder)
    return (
        [f"{count:,} rows repeat an earlier one in every column; data.drop_duplicates=true drops them"] if count else []
    )


def check_account(counts: dict[str, int]) -> None:
    """Rows in = events + session starts + dropped, or nothing is written."""
    out = counts["events"] + counts["session_starts"] + counts["rows_dropped"]
    assert counts["rows_in"] == out, f"row account does not close: {counts}"
