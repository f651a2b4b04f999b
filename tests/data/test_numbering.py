from pathlib import Path

import numpy as np

from shopkeeper.data.numbering import Uses, count_uses, known_first, renumber


def test_what_train_has_comes_first_and_each_group_by_name() -> None:
    # codes 1 to 4: a is only seen later, b is of train, c is not used at all, d is of train
    uses = Uses(np.array([9, 0, 2, 0, 1]), np.array([9, 3, 2, 0, 5]))

    names, known, number = known_first(["a", "b", "c", "d"], uses)

    assert (names, known) == (["b", "d", "a"], 2)
    assert number.tolist() == [0, 3, 1, 0, 2]


def test_what_is_fixed_keeps_its_place_used_or_not() -> None:
    uses = Uses(np.array([0, 0, 1]), np.array([0, 0, 1]))

    assert known_first(["session_start", "view_item"], uses, fixed=1)[:2] == (["session_start", "view_item"], 2)


def test_uses_of_train_are_before_the_cut_and_of_nobody_held_out(tmp_path: Path) -> None:
    arrays = {"item": [1, 1, 2, 0, 1], "time": [5, 10, 5, 5, 5], "visitor": [0, 0, 0, 0, 1]}
    for name, values in arrays.items():
        np.save(tmp_path / f"{name}.npy", np.array(values))

    uses = count_uses(tmp_path, "item", 3, 10, np.array([0, 2], np.int8))

    assert uses.train.tolist() == [1, 1, 1, 0]
    assert uses.all.tolist() == [1, 3, 1, 0]


def test_codes_are_replaced_in_place_in_their_type(tmp_path: Path) -> None:
    np.save(tmp_path / "item.npy", np.array([0, 2, 1], np.int16))

    renumber(tmp_path / "item.npy", np.array([0, 7, 5]))

    found = np.load(tmp_path / "item.npy")
    assert (found.dtype, found.tolist()) == (np.int16, [0, 5, 7])
