"""Tables as the report's template takes them: a caption, columns, and lines of cells."""

from collections.abc import Mapping, Sequence
from typing import Any


def as_table(
    metrics: Mapping[str, Any], caption: str, columns: Sequence[str], cells: Mapping[str, list[dict[str, str]]]
) -> dict[str, Any]:
    """A line per model; the subject's stands out."""
    lines = [{"model": m, "subject": m == metrics["subject"], "cells": found} for m, found in cells.items()]
    return {"caption": caption, "head": "model", "columns": columns, "lines": lines}


def plain_table(caption: str, columns: Sequence[str], cells: Mapping[str, list[dict[str, str]]]) -> dict[str, Any]:
    """A line per slice."""
    lines = [{"model": name, "subject": False, "cells": found} for name, found in cells.items()]
    return {"caption": caption, "head": "", "columns": columns, "lines": lines}


def cell(value: Mapping[str, float]) -> dict[str, str]:
    """A mean and its interval."""
    return {"mean": f"{value['mean']:.4f}", "range": f"[{value['low']:.4f}, {value['high']:.4f}]"}
