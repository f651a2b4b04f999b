import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from shopkeeper.inspection.proposal import MISSING, Entry, flow, plain, remark, render, scalar


def test_entries_are_yaml_with_comments() -> None:
    text = render(
        [
            remark("from web.csv"),
            Entry("defaults", ["events"]),
            Entry(
                "columns",
                [
                    Entry("timestamp", "Zeit", '"03.11.2025"'),
                    Entry("price", MISSING, "not found"),
                    Entry("device", "Gerät", off=True),
                ],
            ),
            Entry("csv", {"separator": ";", "nulls": ["NA"]}),
            Entry("session_gap_minutes", 30, "guess"),
        ]
    )

    assert text == (
        "# from web.csv\n"
        "defaults: [events]\n"
        "columns:\n"
        '  timestamp: Zeit  # "03.11.2025"\n'
        "  price: ???       # not found\n"
        "  # device: Gerät\n"
        'csv: {separator: ";", nulls: [NA]}\n'
        "session_gap_minutes: 30  # guess\n"
    )


def test_settings_are_what_an_entry_sets() -> None:
    block = [Entry("a", "b", "said"), remark("more"), Entry("c", "d", off=True)]

    assert Entry("columns", block).settings == {"a": "b"}
    assert Entry("gap", 30, "said").settings == 30
    assert Entry("csv", {"decimal": ","}).settings == {"decimal": ","}


@pytest.mark.parametrize("text", ["no", "Yes", "null", "1e3", "007", "a: b", "a #b", "", "2025-01-01", "~", "-", "y"])
def test_text_stays_text(text: str) -> None:
    assert yaml.safe_load(scalar(text)) == text
    assert scalar(text).startswith('"')


@given(st.text())
def test_any_text_is_read_back_as_it_is(text: str) -> None:
    settings = OmegaConf.create(f"key: {flow([text])}\n{scalar(text)}: {{a: b}}")

    if "\\$" not in text and "\\\\" not in repr(text):  # Hydra takes these for its own
        assert settings.key[0] == text
    assert OmegaConf.to_container(settings, resolve=False)


def test_a_comment_stays_on_its_line() -> None:
    assert plain("a\n b\x1b[31m\u2028c") == "a b[31m c"
