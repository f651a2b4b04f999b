import pytest

from shopkeeper.config import UserError
from shopkeeper.data.clocks import java_form


@pytest.mark.parametrize(
    ("form", "java"),
    [
        ("%d.%m.%Y %H:%M", "d'.'M'.'yyyy' 'H':'m"),
        ("%Y-%m-%dT%H:%M:%S.%f", "yyyy'-'M'-'d'T'H':'m':'s'.'SSSSSS"),
        ("%-d %B %Y, %I o'clock %p", "d' 'MMMM' 'yyyy', 'h' o''clock 'a"),
    ],
)
def test_a_form_of_strptime_in_the_letters_of_java(form: str, java: str) -> None:
    assert java_form(form) == java


def test_a_letter_that_java_does_not_have_is_named() -> None:
    with pytest.raises(UserError, match="%U is not known to engine=spark; use engine=duckdb"):
        java_form("%Y %U")
