from typing import Any

import numpy as np

from shopkeeper.data.outcomes import MASKED, Outcome
from shopkeeper.evaluate.classified import Classified
from shopkeeper.evaluate.confidence import depth_rows, set_rows
from shopkeeper.evaluate.judgements import Sets

RULES: dict[str, Any] = {"ks": [0, 1, 2], "resamples": 20, "seed": 0}
VISITOR, K = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 1])


def test_sets_cover_by_k_and_by_class() -> None:
    sets = Sets(np.array([9, 9, 9, 2, 4, 6]), np.array([True, True, False, True, False, False]))
    known = np.array([True, True, True, True, True, False])
    tier = (Outcome("segment:tier", ("gold", "tin")), np.array([0, 1, MASKED, 0, 1, MASKED]))
    rows = {
        row["slice"]: row
        for row in set_rows(sets, visitor=VISITOR, k=K, known=known, segments={"segment:tier": tier}, **RULES)
    }

    assert list(rows) == ["k=0", "k=1", "all k", "segment:tier = gold", "segment:tier = tin"]
    assert rows["k=0"]["coverage"]["mean"] == 2 / 3
    # the last example has no target inside the catalogue: counted, and neither covered nor missed
    assert rows["k=1"]["coverage"]["mean"] == 1 / 2
    assert (rows["k=1"]["examples"], rows["k=1"]["outside the catalogue"]) == (2, 1)
    assert (rows["k=1"]["mean size"]["mean"], rows["k=1"]["median size"]) == (3.0, 3.0)
    assert rows["segment:tier = gold"]["coverage"]["mean"] == 1.0
    assert rows["segment:tier = tin"]["coverage"]["mean"] == 1 / 2


def test_depth_has_shares_by_k_and_the_error_of_those_addressed() -> None:
    likelier_first = np.log(np.tile([0.9, 0.1], (6, 1)))
    said = Classified(
        {"segment:tier": likelier_first},
        depth=np.array([0, 0, 1, 1, 2, 1]),
        addressed={"segment:tier": np.array([False, False, True, True, True, True])},
    )
    labels = {"segment:tier": np.array([0, 0, MASKED, 0, 1, 0])}
    rows = {row["slice"]: row for row in depth_rows(said, labels, visitor=VISITOR, k=K, **RULES)}

    assert rows["k=0"]["share"] == {"welcome": 2 / 3, "segment": 1 / 3, "one_to_one": 0.0}
    # of the one addressed at k = 0 nobody knows the truth; of three at k = 1 one is not gold
    assert rows["k=0"]["segments"]["segment:tier"] == {"addressed": 1 / 3, "judged": 0, "error": None}
    later = rows["k=1"]["segments"]["segment:tier"]
    assert (later["addressed"], later["judged"], later["error"]["mean"]) == (1.0, 3, 1 / 3)
    assert rows["all k"]["examples"] == 6
