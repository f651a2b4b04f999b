import pytest

from shopkeeper.evaluate.checks import Check, leak_when, leaks_of, not_applicable, percent, warn_when


def test_a_check_is_one_line_with_its_status_first() -> None:
    assert leak_when("users", True, "2 of 9", {}).line == "LEAK  users: 2 of 9"
    assert leak_when("users", False, "0 of 9", {}).line == "ok    users: 0 of 9"
    assert warn_when("ties", True, "many", {}).line == "warn  ties: many"
    assert warn_when("ties", False, "few", {}).line == "ok    ties: few"


def test_a_check_that_does_not_apply_says_why_and_has_no_figures() -> None:
    check: Check[int] = not_applicable("conversion", "no purchases")

    assert check.line == "n/a   conversion: not applicable: no purchases"
    assert check.figures is None


def test_only_leaks_are_leaks() -> None:
    checks = [leak_when("a", True, "", 1), leak_when("b", False, "", 1), warn_when("c", True, "", 1)]

    assert leaks_of([*checks, not_applicable("d", "")]) == ["a"]


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(0, 5, "0.0%"), (0, 0, "0.0%"), (1, 3, "33.3%"), (1, 40, "2.5%"), (5, 5, "100.0%")]
)
def test_shares_are_written_for_people(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text
