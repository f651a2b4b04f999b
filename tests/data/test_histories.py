from dataclasses import replace

import numpy as np

from shopkeeper.data.histories import Histories, Names, parts
from shopkeeper.data.prepared import Prepared, Window
from shopkeeper.data.windows import train_window


def histories(prepared: Prepared, *, steps: bool = True) -> Histories:
    """The train rows: ann's 0-4, bob's 7 and 8, cid's 9."""
    return Histories(prepared, Names(prepared), train_window(prepared), steps=steps)


def test_asked_are_the_steps_or_the_first_row_of_each_visitor(grocer: Prepared) -> None:
    # ann's three trips begin with rows 0, 2 and 3, bob's two with 5 and 6 of the eight rows, cid's with 7
    assert histories(grocer).row.tolist() == [0, 1, 2, 3, 4, 7, 8, 9]
    assert histories(grocer).at.tolist() == [0, 2, 3, 5, 6, 7]
    assert histories(grocer).whose.tolist() == [0, 0, 0, 1, 1, 2]
    assert histories(grocer, steps=False).at.tolist() == [0, 5, 7]


def test_a_sum_ahead_ends_with_its_visitor(grocer: Prepared) -> None:
    found = histories(grocer)

    assert found.ahead(np.arange(8)).tolist() == [10, 9, 7, 11, 6, 7]
    assert histories(grocer, steps=False).ahead(np.arange(8)).tolist() == [10, 11, 7]
    assert found.sum("orders").tolist() == [3, 2, 1, 2, 1, 1]
    assert (found.sum("spend") / 1e6).tolist() == [14, 10, 5, 11, 1, 4]


def test_an_order_counts_as_long_as_a_row_of_it_is_ahead(clicks: Prepared) -> None:
    # ann's rows in train: three views, then two rows of one order; each row is a step
    window = train_window(clicks)
    found = Histories(clicks, Names(clicks), window.only(window.end - window.start == 5), steps=True)

    assert found.sum("orders").tolist() == [1, 1, 1, 1, 1]
    assert found.sum("bought").tolist() == [2, 2, 2, 2, 1]
    assert found.sum("sessions").tolist() == [1, 1, 1, 1, 1]


def test_categories_are_cut_at_a_level_and_grouped(grocer: Prepared) -> None:
    found, names = histories(grocer), Names(grocer)

    assert found.groups("category", 1, ["HOME"]).tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    assert names.distinct("category", 2) == ["FOOD > BAKERY", "FOOD > DAIRY", "HOME > SOAP"]
    assert names.knows("brand")
    assert not names.knows("channel")


def test_brands_are_compared_with_the_next_visit_to_their_category(grocer: Prepared) -> None:
    # ann comes back to bread (row 1 of r1's two) and milk, of one brand each; soap she bought once in train
    found = histories(grocer)

    assert found.compared.tolist() == [True, True] + [False] * 6
    assert found.stayed.tolist() == [True, True] + [False] * 6


def test_time_ends_at_the_first_cut_after_the_last_row(grocer: Prepared) -> None:
    # cuts at the 11th and the 21st; ann's window may also end with her row of the 12th
    names = Names(grocer)
    window = Window(np.array([0]), np.array([0]), np.array([6]))

    early, late = (Histories(grocer, names, w, steps=False) for w in (replace(window, end=np.array([5])), window))

    assert early.until[0] == grocer.cut("val_start")
    assert late.until[0] == grocer.cut("test_start")
    assert early.days_since(early.bought).round(4).tolist() == [4.5833]  # from the 6th, 10:00
    assert np.isnan(early.days_since(np.zeros(5, bool))).all()


def test_parts_hold_some_visitors_each(grocer: Prepared) -> None:
    window = train_window(grocer)

    found = [part.row.tolist() for part in parts(grocer, Names(grocer), window, steps=True, rows=3)]

    assert found == [[0, 1, 2, 3, 4], [7, 8, 9]]
