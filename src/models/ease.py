"""EASE (Steck 2019, https://doi.org/10.1145/3308558.3313710): the linear item-item model with the best closed form.

X are the sessions by the items seen, Y by those that are targets of the task (sessions, V). With a ridge L,

    B = argmin |Y - X B|^2 + L |B|^2  so that no item predicts itself, B[j, j] = 0
      = P C - P diag((P C)[j, j] / P[j, j]),    P = (X'X + L I)^-1,  C = X'Y

which is Steck's I - P diag(1 / P[j, j]) where Y = X. A history is scored by its items' rows (see `TableModel`). What it
holds is often chosen again: an item of it gains `own`, in place of the zero.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from shopkeeper.data.batches import Vocabulary
from shopkeeper.models.baselines import TableModel, top_of_rows
from shopkeeper.models.contract import FitData
from shopkeeper.models.cooccurrence import session_items

FloatArray = npt.NDArray[np.float32]


class EASE(TableModel):
    """See the module's docstring.

    Args:
        max_items: the items of most sessions that have a row and a column; memory and time grow with its square and
            cube (10,000: about 1.2 GB and a minute). Others are scored by popularity.
        neighbours: weights that are kept of an item, the furthest from zero.
    """

    family = "ease"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        ridge: float,
        own: float,
        max_items: int,
        neighbours: int,
        decay: float,
        window_days: float | None,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            window_days=window_days,
            prior_weight=1e-3,
            decay=decay,
        )
        if ridge <= 0:
            raise ValueError(f"ridge={ridge} must be above 0")
        self.ridge, self.own, self.max_items, self.neighbours = ridge, own, max_items, neighbours

    def table(self, data: FitData, task: str) -> sp.csr_array:
        seen, bought = session_items(data, None), session_items(data, task)
        chosen = np.sort(np.argsort(-seen.sum(axis=0), kind="stable")[: self.max_items])
        weights = regress(seen[:, chosen], bought[:, chosen], ridge=self.ridge)
        np.fill_diagonal(weights, self.own)
        blocks = np.array_split(weights, -(-len(chosen) // 1024))
        kept = sp.coo_array(sp.vstack([top_of_rows(sp.csr_array(block), self.neighbours) for block in blocks]))
        row, column = kept.coords
        size = self.vocabulary.num_items
        return sp.csr_array((kept.data, (chosen[row], chosen[column])), shape=(size, size))


def regress(seen: sp.csr_array, bought: sp.csr_array, *, ridge: float) -> FloatArray:
    """B of the module's docstring (V, V)."""
    inverse = inverse_of((seen.T @ seen + ridge * sp.eye_array(seen.shape[1])).toarray().astype(np.float32))
    weights: FloatArray = inverse @ (seen.T @ bought).toarray().astype(np.float32)
    weights -= inverse * (weights.diagonal() / inverse.diagonal())
    return weights


def inverse_of(matrix: FloatArray) -> FloatArray:
    """Inverse of a symmetric positive definite matrix, in its place."""
    from scipy.linalg import lapack

    factor, _ = lapack.spotrf(matrix.T, lower=False, overwrite_a=True)
    upper, _ = lapack.spotri(factor, lower=False, overwrite_c=True)
    inverse: FloatArray = np.triu(upper)
    inverse += np.triu(inverse, 1).T
    return inverse
