from shopkeeper.data import schema as s


def test_padding_is_no_code_of_an_event() -> None:
    assert (s.PAD, s.ENTRY_EVENT) == (0, 1)


def test_splits_are_numbered_in_order_of_time() -> None:
    assert [s.SPLITS[number] for number in (s.TRAIN, s.VAL, s.TEST)] == ["train", "val", "test"]


def test_no_column_has_two_meanings() -> None:
    columns = [s.TIMESTAMP, s.EVENT, s.ROW, *s.IDS, *s.PROPERTIES, *s.DEFAULT_CONTEXT]

    assert len(set(columns)) == len(columns)
