from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from shopkeeper.config import (
    DoctorConfig,
    EarlyStoppingConfig,
    UserError,
    configure,
    parse,
)
from shopkeeper.data.settings import PrepareConfig, SplitConfig

CONFIGS = Path(__file__).parents[1] / "configs"
SPLIT = {
    "val_days": None,
    "test_days": None,
    "val_share": 0.1,
    "test_share": 0.1,
    "holdout_share": 0.2,
    "holdout_when_new_below": 0.5,
    "holdout_key": "shopkeeper",
}


def config(**changes: Any) -> DictConfig:
    return OmegaConf.create(SPLIT | changes)


def test_values_arrive_as_they_were_written() -> None:
    assert parse(SplitConfig, config(val_days=7, holdout_key="other")) == SplitConfig(
        val_days=7.0,
        test_days=None,
        val_share=0.1,
        test_share=0.1,
        holdout_share=0.2,
        holdout_when_new_below=0.5,
        holdout_key="other",
    )


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="holdout_shares"):
        parse(SplitConfig, config(holdout_shares=0.1))


def test_a_value_of_the_wrong_type_is_refused_with_its_key() -> None:
    with pytest.raises(UserError, match=r"'many'.*holdout_share"):
        parse(SplitConfig, config(holdout_share="many"))


def test_null_is_refused_where_a_value_is_required() -> None:
    with pytest.raises(UserError, match="holdout_key"):
        parse(SplitConfig, config(holdout_key=None))


@pytest.mark.parametrize("value", [{"holdout_key": "???"}, None])
def test_a_missing_key_says_how_to_give_it(value: dict[str, str] | None) -> None:
    cfg = config(**value) if value else OmegaConf.create({k: v for k, v in SPLIT.items() if k != "holdout_key"})

    with pytest.raises(UserError, match="holdout_key is not set: give it on the command line as holdout_key="):
        parse(SplitConfig, cfg)


def test_a_nested_key_is_named_in_full() -> None:
    tracking = {"uri": "x", "experiment": "y", "artifacts": None, "runs_dir": "z", "token": 1}

    with pytest.raises(UserError, match=r"tracking\.token"):
        parse(DoctorConfig, OmegaConf.create({"tracking": tracking}))


def test_the_message_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        parse(EarlyStoppingConfig, OmegaConf.create({"patience": "long", "min_delta": 0.0}))

    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "data").glob("*.yaml")))
def test_the_data_configs_that_ship_are_whole(name: str) -> None:
    parsed = configure("prepare", PrepareConfig, f"data={name}", "output=o", *folder_of(name)).data

    assert parsed.source in (name, "events")
    assert parsed.receipt_gap_minutes == 60


def folder_of(name: str) -> list[str]:
    """The override that a format of several files needs."""
    return ["data.folder=F"] if "\nfolder: ???\n" in (CONFIGS / "data" / f"{name}.yaml").read_text() else []


@pytest.mark.parametrize("name", ["diginetica", "synerise", "recbole"])
def test_a_format_of_several_files_asks_for_their_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"^data\.folder is not set: give it on the command line as data\.folder="):
        configure("prepare", PrepareConfig, f"data={name}", "output=o")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.split.holdout_share", 1.0),
        ("data.split.holdout_share", -0.1),
        ("data.split.val_days", -3.0),
        ("data.session_gap_minutes", 0.0),
        ("data.horizon_days", -1.0),
        ("memory_limit", "lots"),
        ("threads", 0),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"config: {key}={value} is out of range"):
        configure("prepare", PrepareConfig, "output=o", f"{key}={value}")


@pytest.mark.parametrize("override", ["data=nowhere", "no.such.key=1", "output"])
def test_what_hydra_refuses_is_one_line(override: str) -> None:
    with pytest.raises(UserError, match=r"^config: [^\n]+$"):
        configure("prepare", PrepareConfig, "output=o", override)


def test_keys_of_a_mapping_are_the_user_s_own() -> None:
    overrides = ["output=o", "data=events", "data.columns={timestamp: Zeit}", "data.constants.channel=web"]

    data = configure("prepare", PrepareConfig, *overrides).data

    assert (data.columns, data.constants) == ({"timestamp": "Zeit"}, {"channel": "web"})


def test_segments_are_named_on_the_command_line() -> None:
    added = configure(
        "prepare", PrepareConfig, "output=o", "data.segments.tier.measure=spend", "data.segments.tier.edges=[5]"
    )
    first = configure("prepare", PrepareConfig, "output=o", "data=events", "data.segments.old={column: age}")
    without = configure("prepare", PrepareConfig, "output=o", "data.segments.personas=null")

    assert added.data.defined_segments["tier"].edges == [5.0]
    assert added.data.defined_segments["income"].column == "income"
    assert list(first.data.defined_segments) == ["old"]
    assert without.data.segments is not None
    assert {*without.data.segments} - {*without.data.defined_segments} == {"personas"}


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("{}", "defined by one of column, top, measure, cross, personas"),
        ("{column: age, top: brand}", r"data\.segments\.x=\['column', 'top'\] is out of range"),
        ("{top: brand, by: luck}", "data.segments.x.by=luck"),
        ("{measure: mood, edges: [1]}", "measure=mood is out of range: it must be one of events"),
        ("{measure: spend}", "a measure with either edges or quantiles"),
        ("{measure: spend, edges: [2, 1]}", "rising"),
        ("{measure: spend, quantiles: [2]}", "between 0 and 1"),
        ("{measure: spend, edges: [1], names: [a]}", "2 different names"),
        ("{top: brand, at_least: {mood: 1}}", "measure=mood"),
        ("{personas: {clusters: [1, 3]}}", "the least and the most, from 2 to 100"),
        ("{personas: {stable: 2}}", "personas.stable=2.0 is out of range: it must be from 0 to 1"),
    ],
)
def test_a_segment_that_makes_no_sense_is_refused(segment: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        configure("prepare", PrepareConfig, "output=o", "data=events", f"data.segments.x={segment}")
