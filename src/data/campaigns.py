"""The Complete Journey with what the shop sent: its campaigns and the coupons that came back, beside the purchases."""

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.clocks import Clock
from shopkeeper.data.complete_journey import data_folder, read_complete_journey
from shopkeeper.data.engines import Engine
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.sources import Source, after_each_other

TABLES = ("campaigns", "coupon_redemptions", "campaign_descriptions")
ZONE = "America/New_York"
"""Of the dates, while transactions are in UTC: at UTC-5, 2,099 of the 2,102 redemptions fall on a day the household
shopped, in UTC 1,869."""
PERSONAL = "Type A"
"""Of a campaign's coupons each household gets 16, chosen by what it bought; in the others all get all of them."""
SHOWN, REDEEMED = "message_shown", "redeem_coupon"
MAIL, LEAFLET, STORE = "mail", "leaflet", "store"
LAST_SECOND = 86_399
"""Of a day."""


def read_with_campaigns(engine: Engine, config: DataConfig) -> Source:
    """The purchases, each campaign on the day it opens for each of its households, and each coupon handed in."""
    source = read_complete_journey(engine, config)
    files = [data_folder() / f"{name}.parquet" for name in TABLES]
    campaigns, redemptions, descriptions = (engine.scan([file], "parquet", config.csv) for file in files)
    about = descriptions.select("campaign_id", "campaign_type", "start_date")
    opened = messages(campaigns, about, SHOWN, _.start_date, 0, engine.clock)
    returned = messages(redemptions, about, REDEEMED, _.redemption_date, LAST_SECOND, engine.clock)
    counts = [int(table.count().execute()) for table in (opened, returned)]
    bought = source.events.mutate(channel=ibis.literal(STORE))
    source.events = after_each_other([bought, *(alike(sent, bought) for sent in (opened, returned))])
    source.rows += sum(counts)
    source.notes.append(
        f"beside the purchases: {counts[0]:,} campaigns that reached a household, {counts[1]:,} coupons"
    )
    source.files += files
    return source


def messages(sent: ir.Table, about: ir.Table, event: str, date: ir.Value, second: int, clock: Clock) -> ir.Table:
    """A row per household and campaign of `sent`, at a second of the date.

    A redemption counts from the end of its day: before, it would tell of the trip it was made on.
    """
    known = sent.left_join(about, "campaign_id")
    wall = known.bind(date)[0].cast("timestamp(6)") + ibis.interval(seconds=second)
    return known.select(
        **{
            s.ROW: known[s.ROW],
            s.TIMESTAMP: clock.from_wall(wall, ZONE),
            s.EVENT: ibis.literal(event),
            s.USER: known.household_id.cast("string"),
            "channel": ibis.ifelse(known.campaign_type == PERSONAL, MAIL, LEAFLET),
        }
    )


def alike(table: ir.Table, other: ir.Table) -> ir.Table:
    """A table with the columns of another, null where it has none."""
    kinds = other.schema().items()
    return table.select(**{c: table[c] if c in table.columns else ibis.null(kind) for c, kind in kinds})
