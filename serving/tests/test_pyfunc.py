import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shopkeeper_serving.pyfunc import _load_pyfunc


def test_each_row_is_answered_as_over_http(make_bundle: Callable[..., Path]) -> None:
    model = _load_pyfunc(str(make_bundle("repeat")))
    apple = {"event": "page_view", "item_id": "apple", "timestamp": "2026-01-05T09:30:00Z"}
    rows = [json.dumps({"events": [], "k": 1}), json.dumps({"events": [apple], "k": 1, "tasks": ["purchase"]})]

    empty, known = (json.loads(answer) for answer in model.predict({"request": rows}))

    assert empty["cold_start"]["reason"] == "empty_history"
    assert {task: len(items) for task, items in empty["items"].items()} == {"purchase": 1, "next": 1}
    assert known["items"] == {"purchase": [{"item_id": "apple", "score": 1.5, "rank": 1}]}


@pytest.mark.parametrize("text", ["not json", '{"events": 3}', '{"events": [], "size": 3}', None])
def test_a_row_that_is_no_request_is_named(make_bundle: Callable[..., Path], text: str) -> None:
    model = _load_pyfunc(str(make_bundle()))

    with pytest.raises(ValueError, match=r"^row 1: "):
        model.predict({"request": ['{"events": []}', text]})
