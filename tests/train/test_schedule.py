import pytest

from shopkeeper.train.schedule import FIRST, LAST, rate


def test_a_constant_rate_rises_over_the_warm_up_and_stays() -> None:
    share = rate("constant", warm_up=4, total=1)

    assert [share(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_cycle_rises_for_three_tenths_and_falls_to_its_last_step() -> None:
    share = rate("one_cycle", warm_up=4, total=101)

    assert share(0) == pytest.approx(FIRST)
    assert share(15) == pytest.approx((FIRST + 1) / 2)
    assert share(30) == pytest.approx(1.0)
    assert share(65) == pytest.approx((1 + LAST) / 2)
    assert share(100) == pytest.approx(LAST)
    assert share(500) == pytest.approx(LAST)  # epochs differ a little in their steps


def test_a_cycle_of_one_step_has_a_rate() -> None:
    assert rate("one_cycle", warm_up=0, total=1)(0) == pytest.approx(FIRST)
