import numpy as np
import pytest

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.contract import FitData
from shopkeeper.models.cooccurrence import item_vectors, scale_rows_and_columns, session_items


@pytest.fixture(scope="module")
def data(shops: dict[str, Prepared]) -> FitData:
    prepared = shops["clicks"]
    return FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))


def test_a_session_has_an_item_once(data: FitData) -> None:
    table = session_items(data, None)
    rows = data.rows()
    session, item = (np.asarray(data.prepared.rows[name])[rows] for name in ("session", "item"))

    assert set(table.data.tolist()) == {1.0}
    assert table.nnz == len({(s, i) for s, i in zip(session.tolist(), item.tolist(), strict=True) if i})


def test_of_a_task_it_has_the_targets_alone(data: FitData) -> None:
    bought = session_items(data, "purchase")
    rows = data.rows()
    order, item = (np.asarray(data.prepared.rows[name])[rows] for name in ("order", "item"))

    assert set(bought.indices.tolist()) == set((item[(order >= 0) & (item > 0)] - 1).tolist())


def test_at_full_rank_products_are_the_cosine_over_sessions(data: FitData) -> None:
    count = data.vocabulary.num_items
    vectors = item_vectors(data, count)  # one direction short of all

    table = session_items(data, None)
    table = table[np.flatnonzero(np.diff(table.indptr) > 1)]
    scaled = scale_rows_and_columns(table).toarray()
    gram = scaled.T @ scaled
    length = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(vectors @ vectors.T, gram / np.outer(length, length), atol=0.15)


def test_vectors_have_length_one_and_repeat(data: FitData) -> None:
    first, again = item_vectors(data, 6), item_vectors(data, 6)

    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(first, again)


def test_more_dimensions_than_items_are_zero(data: FitData) -> None:
    vectors = item_vectors(data, 64)

    assert vectors.shape == (data.vocabulary.num_items, 64)
    assert (vectors[:, data.vocabulary.num_items :] == 0).all()


def test_scaling_is_by_length_of_the_session_and_count_of_the_item() -> None:
    import scipy.sparse as sp

    table = sp.csr_array(np.array([[1.0, 1.0], [1.0, 0.0]], np.float32))
    found = scale_rows_and_columns(table).toarray()

    # rows: 2 ** -0.25 and 1; columns: 1 / sqrt(2 + 1) and 1 / sqrt(1 + 1)
    np.testing.assert_allclose(found, [[2**-0.25 / 3**0.5, 2**-0.25 / 2**0.5], [1 / 3**0.5, 0.0]], rtol=1e-6)
