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
import numpy as np
import pyarrow as pa

from shopkeeper import __version__
from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.cleaning import clean, odd_times, require_rows
from shopkeeper.data.coding import code_events
from shopkeeper.data.engines import Engine, start_engine
from shopkeeper.data.identities import PERSON, find_persons, joined, joined_users
from shopkeeper.data.log import places
from shopkeeper.data.numbering import kept_visitors, write_codes, write_items, write_visitors
from shopkeeper.data.phases import write_phases
from shopkeeper.data.prepared import FORMAT_VERSION, IDENTITIES, MANIFEST, Prepared
from shopkeeper.data.privacy import secret_of, with_pseudonyms
from shopkeeper.data.segments import declared_users, write_segments
from shopkeeper.data.settings import DataConfig, PrepareConfig
from shopkeeper.data.shelving import Shelved, shelve
from shopkeeper.data.sources import Source, read_source, relabel_users
from shopkeeper.data.split import as_datetime, find_cuts, new_share, split_of, with_holdout
from shopkeeper.data.tables import reading, shown
from shopkeeper.data.writer import content_hash, write_table

WORK = "work"
"""Where the engine keeps what it computes on the way, inside the folder that is being made."""
RAW = "raw"
"""Where it puts the sorted rows, before visits are cut."""

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
    if config.data.source == "simulated":  # nothing but the config decides it
        found = reusable(output, source_key(config, [], None, live=False))
        if found is not None:
            say(f"reusing {output}: same config")
            return found
    source = read_source(engine, config.data)
    if source.users is not None:
        source.users = relabel_users(source.users, config.data.relabel)
    secret = secret_of(config.data.privacy)
    if secret is not None:
        with_pseudonyms(source, secret)
    key = source_key(config, source.files, secret, live=source.live)
    found = reusable(output, key)
    if found is not None:
        say(f"reusing {output}: same log, same config")
        return found
    say(f"preparing {config.data.source}: {source.rows:,} rows")
    manifest = build(engine, source, config.data, partial, say) | {"source_key": key}
    engine.close()
    shutil.rmtree(engine.folder, ignore_errors=True)
    finish(partial, manifest, say)
    replace_folder(partial, output)
    return Prepared.read(output)


def finish(folder: Path, manifest: dict[str, Any], say: Say = lambda text: None) -> None:
    """Fit the segments on what lies in the folder, and write the manifest with the hash of all of it."""
    if manifest["config"].get("segments"):
        say("fitting segments")
    write_segments(Prepared(folder, manifest))
    manifest = manifest | {"content_hash": content_hash(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False))


def clear_place(output: Path, partial: Path) -> None:
    """Clear what a killed run left behind, and refuse to write over a folder that is not ours."""
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).exists():
        raise UserError(f"output={output} exists and is not a prepared dataset; choose another folder")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def source_key(config: PrepareConfig, sources: list[Path], secret: str | None, *, live: bool) -> str:
    """Fingerprint of what the result depends on: config, secret, files (path, size, time of change), version."""
    files = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in sources]
    hidden = hashlib.sha256(f"shopkeeper:{secret}".encode()).hexdigest()
    once = uuid.uuid4().hex if live else ""
    parts = [asdict(config.data), hidden, files, __version__, FORMAT_VERSION, once]
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
    if source.is_text:  # it is parsed once
        source.events = engine.store("log", source.events)
    events, dropped = clean(source, config)
    source.users = declared_users(source.users, None if config.segments is None else config.defined_segments)
    events = with_persons(engine, events, source, config, folder)
    say("sorting events")
    coded = code_events(engine, events, source.context, source.properties, engine.folder / RAW)
    order_only = coded.values[s.EVENT] == [s.SESSION_START, s.PURCHASE]
    say("cutting sessions" + (" (order-only log: a trip is one step)" if order_only else ""))
    shelved = shelve(engine.folder / RAW, folder, config, coded.values[s.EVENT], source.context, order_only=order_only)
    dropped |= {reason: count for reason, count in shelved.dropped.items() if count}
    require_rows(shelved.rows, source, dropped)
    time, session_time = (np.load(folder / kind / "time.npy") for kind in ("rows", "sessions"))
    cuts = find_cuts(time, session_time, config.split)
    fresh = new_share(np.load(folder / "sessions" / "visitor.npy"), session_time, cuts)
    holdout = fresh < config.split.holdout_when_new_below
    np.save(folder / "sessions" / "split.npy", split_of(session_time, cuts))
    notes = source.notes + repeated(shelved, config) + odd_times(time)
    del time, session_time
    say("numbering items")
    visitors = engine.store(
        "visitors", with_holdout(kept_visitors(engine, coded, shelved), config.split, needed=holdout)
    )
    held_out = write_visitors(engine, visitors, source.users, folder)
    items = write_items(engine, coded, source, folder, cuts, held_out)
    vocab = {c: write_codes(folder, c, values, cuts, held_out) for c, values in coded.values.items()}
    write_phases(folder, config.phases, vocab[s.EVENT][0])
    counts = {
        "rows_in": source.rows,
        "rows_dropped": sum(dropped.values()),
        "events": shelved.rows,
        "session_starts": shelved.session_starts,
        "sessions": shelved.sessions,
        "visitors": len(held_out),
        "purchases": shelved.purchases,
        **items,
    }
    check_account(counts)
    return {
        "format_version": FORMAT_VERSION,
        "shopkeeper_version": __version__,
        "source": config.source,
        "config": without_passwords(asdict(config)),
        "order_only": order_only,
        "receipt_gap_minutes": config.receipt_gap_minutes,
        "horizon_days": config.horizon_days,
        "context": source.context,
        "cuts": {name: str(as_datetime(moment)) for name, moment in vars(cuts).items()},
        "new_share": round(fresh, 6),
        "holdout": holdout and config.split.holdout_share > 0,
        "vocab": {c: {"values": values, "known": known} for c, (values, known) in vocab.items()},
        "segments": segment_columns(source),
        "counts": counts,
        "dropped": dropped,
        "notes": notes,
    }


def with_persons(engine: Engine, events: ir.Table, source: Source, config: DataConfig, folder: Path) -> ir.Table:
    """Events and users under the ids of persons, where a table says which ids are one; it is kept for `forget`."""
    if source.identities is None:
        return events
    found = find_persons(source.identities, config.identity)
    source.notes += found.notes
    ids = pa.schema([(s.ALIAS, pa.string()), (PERSON, pa.string())])  # an empty frame has no types
    person = engine.put("persons", pa.Table.from_pandas(found.person, schema=ids, preserve_index=False))
    write_table(engine, person.order_by(s.ALIAS).select(s.ALIAS, PERSON), folder / IDENTITIES)
    if source.users is not None:
        source.users = joined_users(source.users, person, source.notes)
    return joined(events, person)


def without_passwords(config: Any) -> Any:
    """The same, every text of it as it may be kept."""
    if isinstance(config, dict):
        return {key: without_passwords(value) for key, value in config.items()}
    if isinstance(config, list):
        return [without_passwords(value) for value in config]
    return shown(config) if isinstance(config, str) else config


def segment_columns(source: Source) -> list[str]:
    return [c for c in source.users.columns if c != s.USER] if source.users is not None else []


def repeated(shelved: Shelved, config: DataConfig) -> list[str]:
    """A note on rows that say the same as another one, where these are kept."""
    if not shelved.repeated or config.drop_duplicates:
        return []
    return [f"{shelved.repeated:,} rows repeat an earlier one in every column; data.drop_duplicates=true drops them"]


def check_account(counts: dict[str, int]) -> None:
    """Rows in = events + session starts + dropped, or nothing is written."""
    out = counts["events"] + counts["session_starts"] + counts["rows_dropped"]
    assert counts["rows_in"] == out, f"row account does not close: {counts}"
