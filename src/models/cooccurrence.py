"""Which items occur in the same sessions: a sparse table for neighbours, and vectors that start a model from it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from shopkeeper.models.contract import FitData

SHRINK = 1.0
"""Sessions added to every item's count, so that an item seen once is not as sure as one seen often."""

LENGTH_POWER = 0.25
"""A session of n items counts n ** -0.25 for each: long ones say less about any pair."""


def session_items(data: FitData, task: str | None) -> sp.csr_array:
    """Which items occur (or are targets of the task) in which session, as 0/1 float32 (sessions, V)."""
    rows = data.target_rows(task)
    item, session = (np.asarray(data.prepared.rows[name])[rows] for name in ("item", "session"))
    shape = (len(data.prepared.sessions["time"]), data.vocabulary.num_items)
    table = sp.csr_array((np.ones(len(session), np.float32), (session, item - 1)), shape=shape)
    table.sum_duplicates()
    table.data[:] = 1.0
    return table


def item_vectors(data: FitData, dim: int) -> npt.NDArray[np.float32]:
    """Unit vectors (V, dim) whose products follow the cosine of two items over sessions; zero for an unseen item.

    The right singular vectors, times the singular values, of the session-item table with its columns scaled by
    1 / sqrt(sessions with the item): the rank-`dim` cosine similarity (compare PureSVD, Cremonesi et al. 2010,
    https://doi.org/10.1145/1864708.1864721). Where the log has too few items or sessions, the rest is zero.
    """
    from scipy.sparse.linalg import svds

    table = session_items(data, None)
    table = table[np.flatnonzero(np.diff(table.indptr) > 1)]  # one item alone says nothing of two
    vectors = np.zeros((table.shape[1], dim), np.float32)
    rank = min(dim, min(table.shape) - 1)
    if rank < 1:
        return vectors
    scaled = scale_rows_and_columns(table)
    start = np.ones(min(table.shape))  # any would do; a fixed one gives the same vectors each time
    _, values, right = svds(scaled, k=rank, v0=start)
    vectors[:, :rank] = right.T * values
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), 0.0).astype(np.float32)
    return unit


def scale_rows_and_columns(table: sp.csr_array) -> Any:
    sizes, counts = np.diff(table.indptr), np.asarray(table.sum(axis=0)).ravel()
    rows, columns = sp.diags_array(sizes**-LENGTH_POWER), sp.diags_array(1.0 / np.sqrt(counts + SHRINK))
    return sp.csr_array(rows @ table @ columns).astype(np.float32)
