import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.blend import Blend, standard
from shopkeeper.models.contract import SessionModel, nothing_known

Build = Callable[..., SessionModel]
SIZES: dict[str, Any] = {"vocabulary": Vocabulary(4, 1, ()), "tasks": ["next"], "max_len": 3}


def popularity() -> Popularity:
    return Popularity(**SIZES, window_days=None)


def test_counts_become_the_log_of_a_distribution_half_of_it_even() -> None:
    found = standard(popularity(), torch.tensor([[3.0, 1.0, 0.0, 0.0]]))  # mean 1

    torch.testing.assert_close(found, torch.tensor([[math.log(4), math.log(2), 0.0, 0.0]]))


def test_who_counted_nothing_prefers_nothing() -> None:
    assert standard(popularity(), torch.zeros(1, 4)).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_scores_are_the_sum_of_the_parts_weighed_by_steps_seen(
    shops: dict[str, Prepared], build: Build, batch_of: Callable[..., Batch], examples: dict[str, Examples]
) -> None:
    blend = build(shops["clicks"], "blend")
    assert isinstance(blend, Blend)
    batch = batch_of("clicks", examples["clicks"].only(np.flatnonzero(examples["clicks"].k <= 4)))
    sasrec, vmis_knn, repeat = (part.score(batch) for part in blend.named_parts().values())
    counted = [torch.log1p(s / s.mean(dim=-1, keepdim=True)) for s in (vmis_knn, repeat)]
    at = torch.tensor([0, 1, 2, 3, 3])[batch.length - 1]  # ks are 0, 1, 2, 3, 5, 10

    weight = blend.weights[:, at].transpose(0, 1)[..., None, :]
    expected = weight[..., 0] * sasrec + weight[..., 1] * counted[0] + weight[..., 2] * counted[1]

    assert not nothing_known(batch).any()
    torch.testing.assert_close(blend.score(batch), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {"one": popularity()}}, "two parts or more"),
        ({"parts": {"one": popularity(), "../two": popularity()}}, "name of a part"),
        ({"ks": [1, 2]}, "must rise from 0"),
        ({"ks": [0, 2, 1]}, "must rise from 0"),
    ],
)
def test_what_is_no_blend_is_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {
        "parts": {"one": popularity(), "two": popularity()},
        "runs": {},
        "ks": [0],
        "shrinkage": 1,
        "examples": 1,
    }

    with pytest.raises(ValueError, match=message):
        Blend(**SIZES, **(values | changes))
