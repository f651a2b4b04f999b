import json
import math

import pytest
import torch
from torch import Tensor

from shopkeeper.models.calibration import (
    Calibration,
    DepthThresholds,
    better_mass,
    bucket,
    depth_of,
    item_probabilities,
    scaled,
    set_size,
    shortlist_mass,
)

WELCOME, SEGMENT, ONE_TO_ONE = range(3)


@pytest.fixture
def calibration() -> Calibration:
    return Calibration(
        ks=[0, 1, 5],
        scales={"intent": [0.0, 0.5, 1.0]},
        temperature={"next": [1.0, 1.0, 2.0]},
        sets={"next": [0.9, 0.8, 0.7]},
        depth=DepthThresholds({"segment:tier": 0.8, "segment:age": None}, 0.6),
    )


def test_a_history_is_in_the_bucket_of_the_last_border_it_reached() -> None:
    assert bucket(torch.tensor([0, 1, 4, 5, 99]), [0, 1, 5]).tolist() == [0, 1, 1, 2, 2]
    assert bucket(torch.tensor([0, 2]), [1, 2]).tolist() == [0, 1]  # below the first


def test_each_history_gets_the_number_of_its_bucket(calibration: Calibration) -> None:
    found = calibration.at(calibration.scales["intent"], torch.tensor([0, 3, 7]))

    assert found.tolist() == [0.0, 0.5, 1.0]


def test_it_comes_back_from_json_as_it_was(calibration: Calibration) -> None:
    assert Calibration.from_dict(json.loads(json.dumps(calibration.as_dict()))) == calibration


def test_scale_zero_answers_the_prior_and_one_the_head() -> None:
    said, prior = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log(), torch.tensor([0.5, 0.5]).log()

    found = scaled(said, prior, torch.tensor([0.0, 1.0])).exp()

    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.9, 0.1]]))


def test_scale_a_half_takes_the_root_of_the_odds() -> None:
    found = scaled(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([0.5, 0.5]).log(), torch.tensor([0.5])).exp()

    # odds 9 to 1 become 3 to 1
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25]]))


def test_temperature_multiplies_scores() -> None:
    scores = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0], [1.0, -math.inf]])

    found = item_probabilities(scores, torch.tensor([1.0, 2.0, 1.0]))

    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25], [0.9, 0.1], [1.0, 0.0]]))


@pytest.mark.parametrize(("threshold", "size"), [(0.0, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.9, 3), (1.0, 3)])
def test_a_set_ends_with_the_item_that_reaches_the_threshold(threshold: float, size: int) -> None:
    found = set_size(torch.tensor([[0.25, 0.5, 0.25]]), torch.tensor([threshold]))

    assert found.tolist() == [size]


def test_what_ranks_before_a_target_counts_its_ties() -> None:
    probabilities = torch.tensor([[0.1, 0.4, 0.4, 0.1]])

    assert [better_mass(probabilities, torch.tensor([i])).item() for i in range(4)] == pytest.approx(
        [0.9, 0.4, 0.4, 0.9]
    )


def test_a_set_holds_a_target_if_and_only_if_less_than_its_threshold_ranks_before_it() -> None:
    probabilities = torch.softmax(torch.randn(50, 9, generator=torch.Generator().manual_seed(0)), dim=1)
    thresholds = torch.rand(50, generator=torch.Generator().manual_seed(1))
    sizes = set_size(probabilities, thresholds)
    order = probabilities.argsort(dim=1, descending=True)

    for place in range(9):
        target = order[:, place]
        assert torch.equal(better_mass(probabilities, target) < thresholds, place < sizes)


def test_the_shortlist_is_the_best_twenty() -> None:
    few, many = torch.full((1, 5), 0.2), torch.full((1, 40), 1 / 40)

    assert shortlist_mass(few).item() == pytest.approx(1.0)
    assert shortlist_mass(many).item() == pytest.approx(0.5)


def depths(
    k: list[int], shortlist: list[float], top: list[float], thresholds: DepthThresholds, nothing: bool = False
) -> tuple[list[int], Tensor]:
    tier, unknown = {"segment:tier": torch.tensor(top)}, torch.tensor([nothing] * len(k))
    depth, addressed = depth_of(torch.tensor(k), torch.tensor(shortlist), tier, thresholds, nothing=unknown)
    return depth.tolist(), addressed["segment:tier"]


def test_depth_is_the_most_personal_that_its_thresholds_allow() -> None:
    thresholds = DepthThresholds({"segment:tier": 0.8}, 0.6)
    depth, addressed = depths([1, 1, 1, 1], [0.6, 0.5, 0.5, 0.7], [0.1, 0.8, 0.7, 0.9], thresholds)

    assert depth == [ONE_TO_ONE, SEGMENT, WELCOME, ONE_TO_ONE]
    assert addressed.tolist() == [False, True, False, True]


def test_of_whom_nothing_is_known_is_welcomed_however_sure_the_prior_is() -> None:
    depth, addressed = depths([0, 3], [0.9, 0.9], [0.9, 0.9], DepthThresholds({"segment:tier": 0.8}, 0.6), nothing=True)

    assert depth == [WELCOME, WELCOME]
    assert not addressed.any()


def test_who_has_done_nothing_is_never_served_one_to_one() -> None:
    assert depths([0, 0], [0.9, 0.9], [0.1, 0.9], DepthThresholds({"segment:tier": 0.8}, 0.6))[0] == [WELCOME, SEGMENT]


def test_no_threshold_means_never() -> None:
    assert depths([9], [1.0], [1.0], DepthThresholds({"segment:tier": None}, None))[0] == [WELCOME]
    assert depths([9], [1.0], [1.0], DepthThresholds())[0] == [WELCOME]
