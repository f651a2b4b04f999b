"""Rows of numbers, sorted by visitor and time -> visits and orders: where one ends and the next begins.

Everything here takes and gives arrays over the rows of whole visitors (n,), so that a log can be cut part by part.
"""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]

MINUTE = 60_000_000
"""Microseconds."""


def cut_sessions(visitor: IntArray, time: IntArray, session_id: IntArray, gap_minutes: float) -> IntArray:
    """Number the visits from 0, by visitor and then by their first row (n,).

    Rows of a visitor with one session_id are a visit; those without (code 0) are cut where at least `gap_minutes` pass
    between two of them.
    """
    named = np.flatnonzero(session_id)
    loose = np.flatnonzero(session_id == 0)
    opens = changes(visitor[loose])
    opens[1:] |= np.diff(time[loose]) >= int(gap_minutes * MINUTE)
    group = np.empty(len(visitor), np.int64)
    group[loose] = np.cumsum(opens) - 1
    group[named] = opens.sum() + groups_of(visitor[named], session_id[named])
    return by_first_row(group)


def number_orders(visitor: IntArray, session: IntArray, order_id: IntArray, bought: BoolArray) -> IntArray:
    """Number the orders from 0, by visitor and then by their first row; -1 for rows that are no purchase (n,).

    An order is the purchases of one order_id; those without (code 0) are one order of their session.
    """
    order = np.full(len(visitor), -1, np.int64)
    rows = np.flatnonzero(bought)
    named = order_id[rows] > 0
    group = np.empty(len(rows), np.int64)
    group[named] = groups_of(visitor[rows[named]], order_id[rows[named]])
    group[~named] = group[named].max(initial=-1) + 1 + session[rows[~named]]
    order[rows] = by_first_row(group)
    return order


def groups_of(visitor: IntArray, code: IntArray) -> IntArray:
    """A number for each pair (visitor, code), the same for equal pairs (n,)."""
    if not len(code):
        return np.empty(0, np.int64)
    opens = changes(visitor) | changes(code)  # pairs mostly come in runs, of which one row is enough
    pairs = visitor[opens].astype(np.int64) * (int(code.max()) + 1) + code[opens]
    return np.asarray(np.unique(pairs, return_inverse=True)[1].reshape(-1)[np.cumsum(opens) - 1])


def by_first_row(group: IntArray) -> IntArray:
    """Groups renumbered from 0 by the first row of each (n,)."""
    if not len(group) or (group[0] == 0 and bool(np.isin(np.diff(group), (0, 1)).all())):
        return group  # numbered so already
    first = first_rows(group)
    taken = np.flatnonzero(first >= 0)
    number = np.empty(len(first), np.int64)
    number[taken[np.argsort(first[taken], kind="stable")]] = np.arange(len(taken))
    return number[group]


def first_rows(group: IntArray) -> IntArray:
    """Position of the first row of each group 0..max; -1 for a number that no row has."""
    first = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]  # of assignments to one place the last counts
    return first


def changes(values: npt.NDArray[np.generic]) -> BoolArray:
    """Rows whose value is not that of the row before, the first among them (n,)."""
    changed = np.ones(len(values), bool)
    changed[1:] = values[1:] != values[:-1]
    return changed


def repeats(columns: list[npt.NDArray[np.generic]], visitor: IntArray, time: IntArray) -> BoolArray:
    """Rows that say the same as an earlier one in every column (n,); only rows of one moment are compared."""
    again = np.zeros(len(visitor), bool)
    new = changes(visitor) | changes(time)
    tied = np.flatnonzero(~new | np.append(~new[1:], False))
    if not len(tied):
        return again
    moment = np.cumsum(new)[tied]
    table = np.rec.fromarrays(  # NaN is not equal to itself
        [moment, *(np.nan_to_num(c[tied], nan=-1e300) if c.dtype.kind == "f" else c[tied] for c in columns)]
    )
    first = np.unique(table, return_index=True)[1]
    again[tied] = True
    again[tied[first]] = False
    return again


def too_many(session: IntArray, most: int) -> BoolArray:
    """Rows of sessions with more than `most` rows (n,)."""
    return np.asarray(np.bincount(session)[session] > most)


def too_fast(session: IntArray, time: IntArray, most: int) -> BoolArray:
    """Rows of sessions with more than `most` rows within some 60 seconds (n,)."""
    order = np.argsort(session, kind="stable")
    numbers, times = session[order], time[order]
    close = (numbers[most:] == numbers[:-most]) & (times[most:] - times[:-most] < MINUTE)
    fast = np.zeros(int(session.max(initial=-1)) + 1, bool)
    fast[numbers[most:][close]] = True
    return fast[session]
