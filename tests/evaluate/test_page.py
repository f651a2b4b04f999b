from shopkeeper.evaluate.page import as_table, cell, plain_table


def test_the_subject_stands_out() -> None:
    found = as_table({"subject": "own"}, "words", ["k=0"], {"own": [cell({"mean": 0.5, "low": 0.25, "high": 1})]})

    assert found["lines"] == [
        {"model": "own", "subject": True, "cells": [{"mean": "0.5000", "range": "[0.2500, 1.0000]"}]}
    ]
    assert (found["caption"], found["head"], found["columns"]) == ("words", "model", ["k=0"])


def test_a_plain_table_has_no_subject() -> None:
    assert plain_table("words", [], {"k=0": []})["lines"] == [{"model": "k=0", "subject": False, "cells": []}]
