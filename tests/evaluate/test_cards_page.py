from html.parser import HTMLParser

from shopkeeper.evaluate.cards import Card, Lift, SegmentCards
from shopkeeper.evaluate.cards_page import cell, lift_figure, plain, render_cards

FIGURES = {"conversion": 0.125, "average order value": 1234.5, "spend per year": None}
CARDS = SegmentCards(
    "tier",
    "column",
    30,
    40,
    [
        Card("<gold>", 10, 1 / 3, [Lift("channel: web", 0.5, 0.25, 1.5)], FIGURES, "<gold>: 33%"),
        Card("tin", 20, 2 / 3, [Lift("weekend", 0.1, 0.2, -2.0)], FIGURES, "tin: 67%"),
    ],
)


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_part_of_a_page_shows_every_class() -> None:
    page = render_cards([CARDS])

    words = Text(page).words
    assert "30 of 40 customers have a class (column)" in words
    assert [word for word in words if word in ("<gold>", "tin")] == ["<gold>", "tin", "<gold>", "tin"]  # legend, table
    assert {"10", "33.3%", "12.5%", "1,234.50", "-"} <= {*words}
    assert page.count("<svg") == 1


def test_without_cards_there_is_no_part() -> None:
    assert render_cards([]) == ""


def test_the_picture_has_the_strongest_features_first() -> None:
    axes = lift_figure(CARDS).axes[0]

    assert [label.get_text() for label in axes.get_yticklabels()] == ["weekend", "channel: web"]
    assert [bar.get_width() for bars in axes.containers for bar in bars] == [0, 1.5, -2.0, 0]


def test_cells_and_labels() -> None:
    assert (cell("share lapsed", 0.5), cell("spend per year", 2.0), cell("conversion", None)) == ("50.0%", "2.00", "-")
    assert plain("$" + "x" * 40) == r"\$" + "x" * 34 + "…"
