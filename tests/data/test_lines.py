import gzip
from pathlib import Path

import pytest

from shopkeeper.data.lines import header_separator
from shopkeeper.data.settings import CsvConfig


@pytest.mark.parametrize("separator", list(",;\t|"))
def test_the_header_tells_the_separator(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "log.csv"
    file.write_text(separator.join(["when", "what", "who"]) + "\n1.5,2;3\n")

    assert header_separator(file, CsvConfig()) == separator


def test_a_compressed_file_is_looked_into(tmp_path: Path) -> None:
    file = tmp_path / "log.csv.gz"
    file.write_bytes(gzip.compress("größe;art\n1;2\n".encode("latin-1")))

    assert header_separator(file, CsvConfig(encoding="latin-1")) == ";"


def test_a_single_column_has_no_separator_and_a_comma_stands_for_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("id\n1\n")

    assert header_separator(tmp_path / "log.csv", CsvConfig()) == ","
