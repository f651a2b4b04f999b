import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shopkeeper_serving.bundle import BundleError, read_bundle
from shopkeeper_serving.predictor import Predictor

FAMILIES = ["popularity", "repeat", "item_knn", "sasrec"]
MakeBundle = Callable[..., Path]


def refusal(bundle: Path) -> str:
    """The one line that tells why the bundle is refused."""
    with pytest.raises(BundleError) as caught:
        Predictor.load(bundle)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_manifest(bundle: Path, **changes: Any) -> None:
    file = bundle / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_bundle_opens(make_bundle: MakeBundle, family: str) -> None:
    bundle = read_bundle(make_bundle(family))

    assert bundle.item_ids == ["apple", "bread", "cheese", "dates", "eggs"]
    assert bundle.vocabulary.context == {"device": ["mobile", "desktop"]}
    assert bundle.arrays["prior"].shape == (2, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_is_needed(make_bundle: MakeBundle, family: str) -> None:
    names = [file.name for file in make_bundle(family).iterdir()]

    for name in names:
        bundle = make_bundle(family)
        (bundle / name).unlink()
        assert name in refusal(bundle)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_is_needed_in_the_manifest(make_bundle: MakeBundle, seal: Callable[..., None], family: str) -> None:
    names = [file.name for file in make_bundle(family).iterdir() if file.name != "manifest.json"]

    for name in names:
        bundle = make_bundle(family)
        (bundle / name).unlink()
        seal(bundle, family)
        # a model need not tell outcomes, but then its golden requests have none either
        says = f"manifest.json: lists no {name}" if name != "outcomes.json" else "golden.jsonl: request 1"
        assert says in refusal(bundle)


@pytest.mark.parametrize("name", ["prior.npy", "item_ids.json", "vocabulary.json", "golden.jsonl"])
def test_a_changed_byte_is_noticed(make_bundle: MakeBundle, name: str) -> None:
    bundle = make_bundle()
    content = bytearray((bundle / name).read_bytes())
    content[-2] ^= 1
    (bundle / name).write_bytes(content)

    assert str(bundle / name) in refusal(bundle)
    assert "hash" in refusal(bundle)


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_changed_size_is_noticed(make_bundle: MakeBundle, extra: bytes) -> None:
    bundle = make_bundle()
    content = (bundle / "prior.npy").read_bytes()
    (bundle / "prior.npy").write_bytes(content + extra if extra else content[:-1])

    assert str(bundle / "prior.npy") in refusal(bundle)


@pytest.mark.parametrize("name", ["../prior.npy", "/etc/hostname", "a/prior.npy", "..", "", "a\\prior.npy"])
def test_names_cannot_leave_the_folder(make_bundle: MakeBundle, name: str) -> None:
    bundle = make_bundle()
    edit_manifest(bundle, files={name: {"size": 1, "sha256": "0"}})

    assert "not a plain file name" in refusal(bundle)


def test_links_are_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    (bundle / "prior.npy").rename(tmp_path / "elsewhere.npy")
    (bundle / "prior.npy").symlink_to(tmp_path / "elsewhere.npy")

    assert str(bundle / "prior.npy") in refusal(bundle)


def test_pickles_are_refused(make_bundle: MakeBundle, seal: Callable[..., None]) -> None:
    bundle = make_bundle()
    for content in (object_array(), pickle.dumps([1, 2])):
        (bundle / "prior.npy").write_bytes(content)
        seal(bundle)
        assert str(bundle / "prior.npy") in refusal(bundle)


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([None, {}], object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format_version": 1}, "format 1"),
        ({"kind": "oracle"}, "unknown kind of model 'oracle'"),
        ({"kind": "table"}, "lists no indptr_purchase.npy"),
        ({"num_items": 6}, "item_ids.json: 5 ids"),
        ({"tasks": ["purchase"]}, "prior.npy: shape (2, 5)"),
        ({"context": ["country"]}, "vocabulary.json: context columns"),
        ({"max_len": "long"}, "manifest.json: Expected `int`, got `str`"),
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"tasks": ["purchase", "sell"]}, "golden.jsonl: request 1"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(make_bundle: MakeBundle, changes: dict[str, Any], says: str) -> None:
    bundle = make_bundle()
    edit_manifest(bundle, **changes)

    assert str(bundle) in refusal(bundle)
    assert says in refusal(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null"])
def test_a_manifest_that_is_none_is_refused(make_bundle: MakeBundle, content: bytes) -> None:
    bundle = make_bundle()
    (bundle / "manifest.json").write_bytes(content)

    assert str(bundle / "manifest.json") in refusal(bundle)


def test_a_huge_manifest_is_not_read(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    with (bundle / "manifest.json").open("r+b") as stream:
        stream.truncate(10_000_001)

    assert "larger than" in refusal(bundle)


@pytest.mark.parametrize("array", [np.zeros((2, 4), np.float32), np.zeros(5, np.float32), np.zeros((2, 5), "U1")])
def test_a_table_of_another_shape_or_type_is_refused(
    make_bundle: MakeBundle, seal: Callable[..., None], array: npt.NDArray[Any]
) -> None:
    bundle = make_bundle()
    np.save(bundle / "prior.npy", array)
    seal(bundle)

    assert str(bundle / "prior.npy") in refusal(bundle)


def test_a_file_or_nothing_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")

    for path in (tmp_path / "file", tmp_path / "nothing", tmp_path):
        assert "is not a bundle" in refusal(path)


# ---- whole by its hashes, and still no bundle ----

GOLDEN_SHORT = b'{"request": {"events": []}, "item_ids": {"next": []}, "scores": {"next": [0.5, 0.4, 0.3, 0.2, 0.1]}}'
GOLDEN_WITHOUT_IDS = b'{"request": {"events": []}, "item_ids": {}, "scores": {"next": [0.5, 0.4, 0.3, 0.2, 0.1]}}'


def as_file(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("family", "name", "content"),
    [
        ("popularity", "item_ids.json", b'["\xff", "b", "c", "d", "e"]'),
        ("popularity", "golden.jsonl", b'{"request": {"events": [{"event": "\xff"}]}}'),
        ("popularity", "golden.jsonl", GOLDEN_SHORT),
        ("popularity", "golden.jsonl", GOLDEN_WITHOUT_IDS),
        ("popularity", "prior.npy", b""),
        ("item_knn", "indices_purchase.npy", as_file(np.array([1, 99, 0, 3], np.int32))),
        ("item_knn", "indptr_next.npy", as_file(np.array([0, 99, 99, 99, 99, 99], np.int64))),
        ("item_knn", "values_next.npy", as_file(np.array(1, np.float32))),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(
    make_bundle: MakeBundle, seal: Callable[..., None], family: str, name: str, content: bytes
) -> None:
    bundle = make_bundle(family)
    (bundle / name).write_bytes(content)
    seal(bundle, family)

    assert str(bundle / name) in refusal(bundle)


@pytest.mark.parametrize(("old", "new"), [(b'"decay"', b'"delay"'), (b"tiny", b"t\xffny")])
def test_a_manifest_that_lacks_or_garbles_something_is_named(make_bundle: MakeBundle, old: bytes, new: bytes) -> None:
    bundle = make_bundle("repeat")
    file = bundle / "manifest.json"
    file.write_bytes(file.read_bytes().replace(old, new))

    assert str(bundle / "manifest.json") in refusal(bundle)


# ---- blends ----


def test_a_blend_opens_with_its_parts(blend: Path) -> None:
    bundle = read_bundle(blend)

    assert {name: part.manifest.kind for name, part in bundle.parts.items()} == {"own": "table", "popular": "prior"}
    assert bundle.parts["own"].manifest.params == {"decay": 1.0, "prior_weight": 1.0}
    assert bundle.parts["popular"].arrays.keys() == {"prior"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parts": {}}, "parts are what a blend has"),
        ({"parts": {"own": "table", "popular": "magic"}}, "parts: unknown kind of model 'magic'"),
        ({"parts": {"own": "table", "popular": "blend"}}, "parts: unknown kind of model 'blend'"),
        ({"parts": {"own": "table", "other": "prior"}}, "lists no other.prior.npy"),
        ({"parts": {"own": "table"}}, "weights.npy: shape (2, 2, 2), expected (2, 2, 1)"),
        ({"params": {}}, "lacks params.own.decay"),
        ({"kind": "prior"}, "parts are what a blend has"),
    ],
)
def test_a_blend_whose_parts_do_not_fit_is_refused(blend: Path, changes: dict[str, Any], reason: str) -> None:
    edit_manifest(blend, **changes)

    assert reason in refusal(blend)


@pytest.mark.parametrize("ks", [[1, 2], [0, 0], [[0], [2]], [0.0, 2.0]])
def test_buckets_that_do_not_rise_from_zero_are_refused(blend: Path, seal: Callable[..., None], ks: Any) -> None:
    parts = json.loads((blend / "manifest.json").read_text())["parts"]
    np.save(blend / "ks.npy", np.array(ks))
    seal(blend, "blend", parts=parts)

    assert "ks.npy: holds no numbers of steps that rise from 0" in refusal(blend)


def test_a_part_of_the_wrong_shape_is_named(blend: Path, seal: Callable[..., None]) -> None:
    parts = json.loads((blend / "manifest.json").read_text())["parts"]
    np.save(blend / "own.prior.npy", np.zeros((2, 4), np.float32))
    seal(blend, "blend", parts=parts)

    assert f"{blend / 'own.prior'}.npy: shape (2, 4)" in refusal(blend)
