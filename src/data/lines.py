"""How a text file is written, as far as its first line tells."""

import csv as stdlib
from pathlib import Path

import pyarrow as pa

from shopkeeper.data.settings import CsvConfig

HEAD = 1 << 16
"""Bytes that hold the first line."""


def header_separator(file: Path, csv: CsvConfig) -> str:
    """The separator of the header, for engines that do not look for it; the file may be compressed."""
    with pa.input_stream(str(file)) as stream:
        head = stream.read(HEAD).decode(csv.encoding, errors="replace")
    try:
        return stdlib.Sniffer().sniff(head.split("\n", 1)[0], delimiters=",;\t|").delimiter
    except stdlib.Error:
        return ","
