"""Side tables of a log: items, users and identities, one row for each id."""

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.columns import Typed, as_id, as_number, as_text
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.tables import count_values, shown


def renamed(table: ir.Table, columns: Mapping[str, str], key: str, path: str) -> ir.Table:
    """The table with the columns that `columns` maps (ours -> theirs) under our names; theirs go.

    Raises:
        UserError: when the table lacks one of theirs.
    """
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            there = ", ".join(c for c in table.columns if c != s.ROW)
            raise UserError(f"{key}: {path} has no column {theirs!r}, which is to be {ours!r}; it has: {there}")
    kept = {c: table[c] for c in table.columns if c not in columns and c not in columns.values()}
    return table.select(**kept, **{ours: table[theirs] for ours, theirs in columns.items()})


def read_side(
    raw: ir.Table | None,
    path: str | None,
    key: str,
    id_column: str,
    columns: Mapping[str, str],
    *,
    config: DataConfig,
    notes: list[str],
    used: tuple[str, ...] | None = None,
) -> ir.Table | None:
    """An `items` or `users` table with text ids; None when it is not given or has no rows.

    Of the columns besides the id those in `used` are read (None: all) where they hold a value; `notes` gets the rest.

    Raises:
        UserError: when the id column is missing, or a column has a name that preparation uses; unless
            `data.bad_values` is drop, also for a row without an id or with one that came before, and for a bad price.
    """
    if raw is None:
        return None
    path = shown(path or key)
    raw = renamed(raw, columns, key, path)
    if id_column not in raw.columns:
        raise UserError(f"{key}: {path} has no column {id_column!r}")
    rows, found = count_values(raw)
    if not rows:
        return None
    present = found - {id_column, s.ROW}
    read = [name for name in raw.columns if name in present and (used is None or name in used)]
    note(notes, path, "not used", [name for name in raw.columns if name in present and name not in read])
    note(notes, path, "without any value count as absent", [n for n in raw.columns if n not in found | {id_column}])
    reserved = [name for name in read if name in s.RESERVED]
    if reserved:
        raise UserError(f"{key}: column {reserved[0]!r} is a name shopkeeper uses itself; rename it in {path}")
    typed = {id_column: as_id(raw[id_column], path)}
    decimal = config.csv.decimal
    typed |= {n: as_number(raw[n], path, decimal, least=0.0) if n == s.PRICE else Typed(as_text(raw[n])) for n in read}
    return without_bad_rows(raw, typed, path, config, notes)


def without_bad_rows(
    raw: ir.Table, typed: Mapping[str, Typed], path: str, config: DataConfig, notes: list[str]
) -> ir.Table:
    """The typed columns; rows with a bad value, and all but the first of an id, are an error or a counted drop.

    The first column is the id.
    """
    id_column = next(iter(typed))
    unread = [(t.bad, f"have a {name!r} that is not {t.wanted}") for name, t in typed.items() if t.bad is not None]
    order = [s.ROW] if s.ROW in raw.columns else [id_column]
    why = ibis.cases(*unread, (typed[id_column].value.isnull(), f"have no {id_column!r}"), else_=ibis.null("string"))
    table = raw.select(
        reason=why, **{name: t.value for name, t in typed.items()}, **{n: raw[n] for n in order if n == s.ROW}
    )
    again = ibis.row_number().over(ibis.window(group_by=id_column, order_by=order)) > 0
    marked = table.mutate(reason=ibis.ifelse(_.reason.isnull() & again, f"repeat an {id_column!r}", _.reason))
    found = marked.filter(_.reason.notnull()).group_by("reason").agg(n=_.count()).order_by("reason").execute()
    for reason, count in zip(found["reason"], found["n"], strict=True):
        if config.bad_values == "error":
            raise UserError(f"{path}: {count} rows {reason}; mend them, or leave them out with data.bad_values=drop")
        notes.append(f"{path}: {count:,} rows dropped, as they {reason}")
    return marked.filter(_.reason.isnull()).select(*typed)


def read_identities(raw: ir.Table | None, config: DataConfig) -> ir.Table | None:
    """Pairs (alias, user_id) of ids of one person, as text; None when there is no such table.

    Raises:
        UserError: when a column is missing.
    """
    if raw is None:
        return None
    path = shown(config.identities or "data.identities")
    raw = renamed(raw, config.identity_columns, "data.identities", path)
    for column in (s.ALIAS, s.USER):
        if column not in raw.columns:
            raise UserError(f"data.identities: {path} has no column {column!r}")
    return raw.select(**{c: as_id(raw[c], path).value for c in (s.ALIAS, s.USER)})


def note(notes: list[str], path: str, what: str, columns: list[str]) -> None:
    """Name columns once, where there are any."""
    if columns:
        notes.append(f"{path}: columns {what}: {', '.join(columns)}")
