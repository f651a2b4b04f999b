"""Silos -> persons: the ids that a table of aliases ties together become one."""

from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from ibis import _
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shopkeeper.data import schema as s
from shopkeeper.data.settings import IdentityConfig

PERSON = "person"


class Persons(NamedTuple):
    """The id that the person behind each tied id goes by, and notes on what was not tied."""

    person: pd.DataFrame  # columns alias, person
    notes: list[str]


def find_persons(identities: ir.Table, config: IdentityConfig) -> Persons:
    """Tie the ids of a table (alias, user_id) by its connected components, whatever the order of its rows.

    A person goes by the smallest of its ids that is nobody's alias. Left apart, and told in a note: a group of more
    than `max_aliases` ids besides that one (a shared terminal, a placeholder), and one in which aliases lead back to
    where they came from, so that nobody can say which id is the person's.
    """
    pairs = identities.select(s.ALIAS, s.USER).distinct().execute().dropna()
    pairs = pairs[pairs[s.ALIAS] != pairs[s.USER]]
    ids = np.unique(pairs.to_numpy(dtype=object).ravel()) if len(pairs) else np.empty(0, object)
    alias, user = (np.searchsorted(ids, pairs[c].to_numpy(dtype=object)) for c in (s.ALIAS, s.USER))
    graph = coo_array((np.ones(len(pairs), np.int8), (alias, user)), shape=(len(ids), len(ids))).tocsr()
    if not len(ids):
        return Persons(pd.DataFrame({s.ALIAS: [], PERSON: []}, dtype="object"), [])
    groups, group = connected_components(graph, directed=False)
    size = np.bincount(group, minlength=groups)
    circular = np.zeros(groups, bool)
    _, knot = connected_components(graph, connection="strong")
    circular[group[np.bincount(knot)[knot] > 1]] = True
    large = ~circular & (size - 1 > config.max_aliases)
    own = np.ones(len(ids), bool)  # nobody's alias
    own[alias] = False
    first = np.full(groups, len(ids))
    np.minimum.at(first, group[own], np.flatnonzero(own))  # ids are sorted: the smallest comes first
    tied = ~(circular | large)[group]
    person = pd.DataFrame({s.ALIAS: ids[tied], PERSON: ids[first[group[tied]]]}, dtype="object")
    return Persons(person, left_apart(circular, large, size, config))


def left_apart(circular: np.ndarray, large: np.ndarray, size: np.ndarray, config: IdentityConfig) -> list[str]:
    """Groups that were not followed, without any id in the words."""
    notes = []
    if circular.any():
        notes.append(
            f"identities: {int(circular.sum()):,} groups of ids ({int(size[circular].sum()):,} ids) are not joined: "
            "their aliases run in a circle"
        )
    if large.any():
        notes.append(
            f"identities: {int(large.sum()):,} groups of more than data.identity.max_aliases={config.max_aliases} "
            f"aliases are not joined; the largest has {int(size[large].max()):,} ids"
        )
    return notes


def joined(events: ir.Table, person: ir.Table) -> ir.Table:
    """Events whose user_id, where it is a person's alias, is the id the person goes by."""
    found = events.left_join(person, events[s.USER] == person[s.ALIAS])
    return found.mutate(**{s.USER: found[PERSON].fill_null(found[s.USER])}).drop(s.ALIAS, PERSON)


def joined_users(users: ir.Table, person: ir.Table, notes: list[str]) -> ir.Table:
    """Users under the ids of persons; of a person's rows that of its own id counts, else the first by id."""
    found = users.left_join(person, users[s.USER] == person[s.ALIAS])
    found = found.mutate(own=(found[PERSON].fill_null(found[s.USER]) == found[s.USER]).cast("int64"), was=found[s.USER])
    found = found.mutate(**{s.USER: found[PERSON].fill_null(found[s.USER])})
    place = ibis.row_number().over(ibis.window(group_by=s.USER, order_by=[ibis.desc("own"), "was"]))
    kept = found.mutate(again=place).filter(_.again == 0).select(*users.columns)
    lost = int(users.count().execute()) - int(kept.count().execute())
    if lost:
        notes.append(f"users: {lost:,} rows are of a person who has another row, which counts")
    return kept
