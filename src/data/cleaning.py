"""Which rows of a log count: those that can be placed and may be used; every other one is counted by its reason."""

from datetime import UTC, datetime

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import Engine
from shopkeeper.data.sessions import SESSION_KEY, VISITOR_KEY, microseconds
from shopkeeper.data.settings import BotConfig, DataConfig
from shopkeeper.data.sources import BAD, Source

NO_CONSENT = "no consent"


def clean(engine: Engine, source: Source, config: DataConfig) -> tuple[ir.Table, dict[str, int]]:
    """Keep rows that have a time, an event and a visitor, and that may be used; count the others by reason.

    With `drop_duplicates`, rows that say the same as an earlier one in every column are dropped too.

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
    if config.drop_duplicates:
        said = [column for column in marked.columns if column not in (s.ROW, "reason")]
        again = ibis.row_number().over(ibis.window(group_by=said, order_by=s.ROW)) > 0
        repeats = _.again & _.reason.isnull()
        marked = marked.mutate(again=again)
        marked = marked.mutate(reason=ibis.ifelse(repeats, "exact duplicate of an earlier row", _.reason)).drop("again")
    marked = engine.store("marked", marked)
    found = marked.filter(_.reason.notnull()).group_by("reason").agg(n=_.count()).order_by("reason").execute()
    dropped = dict(zip(found["reason"], found["n"].astype(int), strict=True))
    if config.bad_values == "error":
        refuse_bad_values(source, dropped)
    kept = marked.filter(_.reason.isnull()).drop("reason")
    dropped = source.dropped | {reason: int(n) for reason, n in dropped.items()}
    require_events(kept, source, dropped)
    return kept, dropped


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


def require_events(kept: ir.Table, source: Source, dropped: dict[str, int]) -> None:
    counts = kept.aggregate(rows=_.count(), events=(_.event != s.SESSION_START).sum()).execute().iloc[0]
    if not counts["rows"]:
        raise UserError(f"no event is left of {source.rows:,} rows: {dropped or 'the log is empty'}")
    if not counts["events"]:
        raise UserError(f"the log holds {s.SESSION_START} rows alone: there is nothing to learn from")


def without_bots(engine: Engine, events: ir.Table, config: BotConfig) -> tuple[ir.Table, dict[str, int]]:
    """Drop whole sessions with more events than a person makes, in any 60 seconds or in all; count their rows."""
    rules = {}
    if config.events_per_session is not None:
        whole = ibis.window(group_by=[VISITOR_KEY, SESSION_KEY])
        rules[f"session of more than {config.events_per_session} events"] = (
            _.count().over(whole) > config.events_per_session
        )
    if config.events_per_minute is not None:
        timeline = ibis.window(group_by=[VISITOR_KEY, SESSION_KEY], order_by=[s.TIMESTAMP, s.ROW])
        time = microseconds(_[s.TIMESTAMP])
        since = time - time.lag(config.events_per_minute).over(timeline)  # as many events earlier in the session
        rules[f"session of more than {config.events_per_minute} events in a minute"] = (since < 60_000_000).fill_null(
            False
        )
    dropped: dict[str, int] = {}
    for number, (reason, rule) in enumerate(rules.items()):
        made = events.mutate(again=rule).filter(_.again).select(VISITOR_KEY, SESSION_KEY).distinct()
        kept = engine.store(f"people_{number}", events.anti_join(made, [VISITOR_KEY, SESSION_KEY]))
        dropped[reason] = int(events.count().execute()) - int(kept.count().execute())
        events = kept
    return events, {reason: count for reason, count in dropped.items() if count}


def odd_times(events: ir.Table) -> list[str]:
    """What a wrong clock or unit leaves in a log: events that have not happened yet, or before there were shops."""
    now, shops = datetime.now(UTC).replace(tzinfo=None), datetime(1990, 1, 1)
    time = events[s.TIMESTAMP]
    found = events.aggregate(late=(time > now).sum(), last=time.max(), early=(time < shops).sum(), first=time.min())
    late, last, early, first = found.execute().iloc[0]
    remedy = "check their clock or unit, as the cuts between train, val and test go by time"
    return [
        f"{int(count):,} events lie {where} {most:%Y-%m-%d %H:%M}: {remedy}"
        for count, where, most in ((late, "in the future, until", last), (early, "before 1990, from", first))
        if count
    ]
