"""The closed form against what it is the closed form of: one regression per item, without the item itself."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

from shopkeeper.config import UserError
from shopkeeper.data.batches import Batch
from shopkeeper.models.contract import FitData
from shopkeeper.models.ease import EASE, inverse_of, regress

Fitted = Callable[..., EASE]
BREAD, JAM, MILK, TEA = range(4)
TRIPS = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 1.0]])
"""The five trips that the fixture `data` is made of."""


def test_two_items_by_hand() -> None:
    # X'X + 1 = [[4, 1], [1, 2]], its inverse [[2, -1], [-1, 4]] / 7: B = [[0, 1/4], [1/2, 0]]
    seen = sp.csr_array(np.array([[1.0, 1], [1, 0], [1, 0]]))

    np.testing.assert_allclose(regress(seen, seen, ridge=1.0), [[0, 1 / 4], [1 / 2, 0]], atol=1e-6)


@pytest.mark.parametrize("bought", [TRIPS, np.eye(5, 4)])
def test_each_column_is_a_ridge_regression_on_the_other_items(bought: np.ndarray) -> None:
    found = regress(sp.csr_array(TRIPS), sp.csr_array(bought), ridge=2.0)

    for j in range(4):
        others = np.delete(np.arange(4), j)
        x = TRIPS[:, others]
        expected = np.linalg.solve(x.T @ x + 2.0 * np.eye(3), x.T @ bought[:, j])
        assert found[others, j] == pytest.approx(expected, abs=1e-5)
        assert found[j, j] == pytest.approx(0.0, abs=1e-6)


def test_a_history_gains_by_its_items_and_a_little_by_itself(
    data: FitData, fitted: Fitted, history: Callable[..., Batch]
) -> None:
    model = fitted("ease", data, ridge=2.0, own=0.3, decay=0.5)
    weights = regress(sp.csr_array(TRIPS), sp.csr_array(TRIPS), ridge=2.0)
    np.fill_diagonal(weights, 0.3)

    found = model.score(history([MILK + 1], [TEA + 1]))[0, 0] - 1e-3 * model.prior_scores()[0]

    assert found.tolist() == pytest.approx(weights[TEA] + 0.5 * weights[MILK], abs=1e-5)


def test_items_of_few_sessions_have_no_weights(data: FitData, fitted: Fitted) -> None:
    table = fitted("ease", data, max_items=3, own=0.3).table_of(0).toarray()

    assert table[JAM].tolist() == table[:, JAM].tolist() == [0.0] * 4  # in one session, the others in two and three
    assert table[BREAD, MILK] > 0


def test_the_weights_furthest_from_zero_are_kept(data: FitData, fitted: Fitted) -> None:
    whole = fitted("ease", data, ridge=2.0, own=0.0).table_of(0).toarray()
    table = fitted("ease", data, ridge=2.0, own=0.0, neighbours=1).table_of(0).toarray()

    assert (whole < 0).any()
    for row, kept in zip(whole, table, strict=True):
        assert np.flatnonzero(kept).tolist() == [np.abs(row).argmax()]


def test_the_inverse_of_a_symmetric_matrix() -> None:
    found = inverse_of(np.array([[4, 1], [1, 2]], np.float32))

    np.testing.assert_allclose(found, np.array([[2, -1], [-1, 4]]) / 7, atol=1e-6)


def test_no_ridge_is_refused(data: FitData, fitted: Fitted) -> None:
    with pytest.raises(UserError, match=r"ridge=0\.0 must be above 0"):
        fitted("ease", data, ridge=0.0)
