from typing import Any

import pytest

from shopkeeper.config import UserError
from shopkeeper.data.settings import FeedConfig, SplitConfig


def split(**changes: Any) -> SplitConfig:
    values: dict[str, Any] = {"val_days": 7.0, "test_days": 7.0, "val_share": None, "test_share": None}
    values["holdout_share"] = 0.2
    return SplitConfig(**(values | changes), holdout_when_new_below=0.5, holdout_key="key")


@pytest.mark.parametrize(("key", "value"), [("holdout_share", 1.0), ("val_days", 0.0), ("test_days", -1.0)])
def test_a_split_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"data\.split\.{key}={value}"):
        split(**{key: value})


@pytest.mark.parametrize(("share", "folds"), [(0.2, 10), (0.3, 6), (0.0, 2), (0.6, 2)])
def test_a_fold_is_a_slice_with_either_half_for_validation(share: float, folds: int) -> None:
    assert split(holdout_share=share, fold=folds - 1).fold == folds - 1
    with pytest.raises(UserError, match=rf"data\.split\.fold={folds} is out of range"):
        split(holdout_share=share, fold=folds)


@pytest.mark.parametrize(("key", "value"), [("time_unit", "minutes"), ("time_zone", "Europe/Atlantis")])
def test_a_time_that_nobody_can_read_is_named(key: str, value: str) -> None:
    setting: dict[str, Any] = {key: value}

    with pytest.raises(UserError, match=rf"data\.{key}={value}"):
        FeedConfig(events="log.csv", **setting)
