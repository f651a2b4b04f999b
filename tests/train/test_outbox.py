from pathlib import Path

from shopkeeper.train.outbox import OUTBOX_FILE, Outbox, Record


def test_records_keep_their_order_and_number(tmp_path: Path) -> None:
    Outbox(tmp_path / "run").add("metrics", {"values": {"a": 1.0}})
    Outbox(tmp_path / "run").add("end", {"status": "FINISHED"})

    assert Outbox(tmp_path / "run").pending() == [
        Record(1, "metrics", {"values": {"a": 1.0}}),
        Record(2, "end", {"status": "FINISHED"}),
    ]


def test_what_was_delivered_is_not_pending_and_numbers_go_on(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for kind in ("params", "tags", "file"):
        outbox.add(kind, {})
    outbox.mark(outbox.pending()[1])
    assert [record.number for record in outbox.pending()] == [3]
    outbox.mark(outbox.pending()[0])
    assert outbox.pending() == []

    outbox.add("end", {})

    assert [record.number for record in outbox.pending()] == [4]


def test_a_line_that_a_kill_cut_off_is_none(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.add("tags", {})
    with (tmp_path / OUTBOX_FILE).open("a") as file:
        file.write('{"number": 2, "ki')

    assert [record.number for record in outbox.records()] == [1]
    outbox.add("end", {})
    assert [(record.number, record.kind) for record in outbox.records()] == [(1, "tags"), (2, "end")]


def test_where_nothing_waits_nothing_is_made(tmp_path: Path) -> None:
    assert Outbox(tmp_path / "run").pending() == []
    assert not (tmp_path / "run").exists()
