"""Which rows of a log count: those that can be placed and may be used; every other one is counted by its reason."""

from datetime import UTC, datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.sources import BAD, Source
from shopkeeper.data.split import as_datetime

NO_CONSENT = "no consent"


def clean(source: Source, config: DataConfig) -> tuple[ir.Table, dict[str, int]]:
    """Keep rows that have a time, an event and a visitor, and that may be used; count the others by reason.

    Raises:
        UserError: for a bad value where these are errors, and when nothing is left.
    """
    events = source.events
    bad = [(_[BAD].notnull(), _[BAD])] if BAD in events.columns else []
    marked = events.mutate(
        reason=ibis.cases(
            *bad,
            (_.timestamp.isnull(), "no timestamp"),
            (_.event.isnull(), "no event"),
            (_.user_id.isnull() & _.session_id.isnull(), "neither user_id nor session_id"),
            else_=ibis.null("string"),
        )
    )
    marked = with_consent(marked, source, config).drop(*(c for c in (BAD,) if bad))
    found = marked.filter(_.reason.notnull()).group_by("reason").agg(n=_.count()).order_by("reason").execute()
    dropped = dict(zip(found["reason"], found["n"].astype(int), strict=True))
    if config.bad_values == "error":
        refuse_bad_values(source, dropped)
    dropped = source.dropped | {reason: int(n) for reason, n in dropped.items()}
    require_rows(source.rows - sum(dropped.values()), source, dropped)
    return marked.filter(_.reason.isnull()).drop("reason"), dropped


def with_consent(events: ir.Table, source: Source, config: DataConfig) -> ir.Table:
    """Mark rows without consent, by a column of the events or of the users; `source.users` loses the column.

    Whoever did not say yes said no: an empty value, and a user who is not in the table, give no consent.
    """
    column, granted = config.privacy.consent, [value.lower() for value in config.privacy.granted]
    if column in events.columns:
        refused = ~_[column].lower().isin(granted).fill_null(False)
        events = events.mutate(reason=ibis.ifelse(_.reason.isnull() & refused, NO_CONSENT, _.reason))
        events = events if column in source.context else events.drop(column)
    if source.users is not None and column in source.users.columns:
        yes = source.users.filter(_[column].lower().isin(granted)).select(agreed=_[s.USER])
        joined = events.left_join(yes, events[s.USER] == yes.agreed)
        refused = _.agreed.isnull() & _[s.USER].notnull()
        events = joined.mutate(reason=ibis.ifelse(_.reason.isnull() & refused, NO_CONSENT, _.reason)).drop("agreed")
        source.users = source.users.drop(column)
    return events


def refuse_bad_values(source: Source, found: dict[str, int]) -> None:
    """Raise for the first reason of `source.examples` that was found, with how often and some values."""
    for reason, values in source.examples.items():
        if reason in found:
            shown = values.distinct().order_by("example").limit(3).execute()["example"].tolist()
            raise UserError(
                f"{reason} in {found[reason]:,} rows, for example {', '.join(map(repr, shown))}; mend them, "
                "or leave their rows out with data.bad_values=drop"
            )


def require_rows(rows: int, source: Source, dropped: dict[str, int]) -> None:
    """Raise where nothing is left of a log that could be learned from."""
    if sum(dropped.values()) == source.rows:
        raise UserError(f"no event is left of {source.rows:,} rows: {dropped or 'the log is empty'}")
    if not rows:
        raise UserError(f"the log holds {s.SESSION_START} rows alone: there is nothing to learn from")


def odd_times(time: npt.NDArray[np.int64]) -> list[str]:
    """What a wrong clock or unit leaves in a log: events that have not happened yet, or before there were shops."""
    found = []
    remedy = "check their clock or unit, as the cuts between train, val and test go by time"
    late = time[time > as_microseconds(datetime.now(UTC))]
    early = time[time < as_microseconds(datetime(1990, 1, 1, tzinfo=UTC))]
    if len(late):
        last = as_datetime(int(late.max()))
        found.append(f"{len(late):,} events lie in the future, until {last:%Y-%m-%d %H:%M}: {remedy}")
    if len(early):
        first = as_datetime(int(early.min()))
        found.append(f"{len(early):,} events lie before 1990, from {first:%Y-%m-%d %H:%M}: {remedy}")
    return found


def as_microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
