"""Read a bundle folder and refuse it, naming the file, when anything about it is wrong.

A bundle is data only: JSON, NumPy arrays and one ONNX graph of standard operators. Nothing in it is unpickled or run.
"""

import hashlib
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from shopkeeper_serving.outcomes import Outcomes

T = TypeVar("T")

FORMAT_VERSION: Final = 2
MANIFEST: Final = "manifest.json"
GOLDEN: Final = "golden.jsonl"
ITEM_IDS: Final = "item_ids.json"
VOCABULARY: Final = "vocabulary.json"
PRIOR: Final = "prior"
ENCODER: Final = "encoder.onnx"
OUTCOMES: Final = "outcomes.json"
"""Brought by models that tell more than items; others have none."""

ENCODER_KIND: Final = "encoder"
BLEND: Final = "blend"

SPARSE: Final = ("indptr", "indices", "values")
"""Parts of a sparse table: where its rows begin, and the columns and values of their entries."""

ARRAYS: Final = {
    ENCODER_KIND: (PRIOR, "items", "bias", "repeat"),
    "prior": (PRIOR,),
    "table": (PRIOR,),
    "context": (PRIOR,),
    "sessions": (PRIOR, "sessions_indptr", "sessions_indices", "sessions_values", "sessions_worth", "item_weight"),
    "visitors": (PRIOR, "visitors_indptr", "visitors_indices", "visitors_values", "visitors_norm"),
    BLEND: (PRIOR, "weights", "ks"),
}
"""Arrays that each kind of model brings, as `<name>.npy`."""

INPUTS: Final = "inputs"
"""An encoder's item table for reading steps, where it is not the one that scores."""

TASK_ARRAYS: Final = dict.fromkeys(("table", "context", "sessions", "visitors"), SPARSE)
"""Arrays that a kind brings for each task, as `<name>_<task>.npy`."""

PARAMS: Final = {
    "table": ("decay", "prior_weight"),
    "context": ("prior_weight",),
    "sessions": (
        *("most_recent", "neighbours", "max_query", "query_power", "query_rate"),
        *("match_slope", "match_power", "place_rate"),
    ),
    "visitors": ("neighbours", "group_size", "step_decay", "group_decay", "own_share"),
}
MAX_TOLERANCE: Final = 0.01
"""A bundle whose own answers may be further off proves nothing by replaying them."""

MAX_MANIFEST_BYTES: Final = 10_000_000


class BundleError(ValueError):
    """The bundle is missing, incomplete, damaged or not what it says; the message names the file."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """manifest.json: what the bundle is, how a history becomes model input, and every file's size and hash."""

    format_version: int
    name: str
    version: str
    kind: str
    family: str
    created: str
    tasks: list[str]
    num_items: int
    max_len: int
    order_only: bool
    receipt_gap_seconds: float
    purchase_event: str
    context: list[str]
    params: dict[str, float]
    run_id: str
    refit_of: str | None
    dataset_hash: str
    shopkeeper_version: str
    score_tolerance: float
    files: dict[str, FileEntry]
    parts: dict[str, str] = {}
    """Of a blend: the kind of each part, whose files and params stand under its name and a dot."""


class Vocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Known event names and context values; a value's code is its position plus one, 0 is unknown."""

    event: list[str]
    context: dict[str, list[str]]


class Bundle(msgspec.Struct, frozen=True):
    """A verified bundle in memory; large arrays stay memory-mapped."""

    path: Path
    manifest: Manifest
    item_ids: list[str]
    vocabulary: Vocabulary
    arrays: dict[str, npt.NDArray[Any]]
    outcomes: Outcomes | None
    prefix: str = ""
    parts: dict[str, "Bundle"] = {}

    def file(self, name: str) -> Path:
        return self.path / f"{self.prefix}{name}"


def read_bundle(path: str | Path) -> Bundle:
    """Verify and open the bundle at `path`.

    Raises:
        BundleError: naming the file, when one is missing, changed, of the wrong shape, or the format is unknown.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        verify_file(folder, name, entry)
    for name in [ITEM_IDS, VOCABULARY, GOLDEN, *model_files(manifest)]:
        if name not in manifest.files:
            raise BundleError(f"{folder / MANIFEST}: lists no {name}, which a bundle of kind {manifest.kind} needs")
    for name in needed_params(manifest):
        if name not in manifest.params:
            raise BundleError(f"{folder / MANIFEST}: lacks params.{name}, which a bundle of kind {manifest.kind} needs")
    bundle = with_arrays(
        Bundle(
            path=folder,
            manifest=manifest,
            item_ids=decode(folder / ITEM_IDS, list[str]),
            vocabulary=decode(folder / VOCABULARY, Vocabulary),
            arrays={},
            outcomes=read_outcomes(folder, manifest) if OUTCOMES in manifest.files else None,
        )
    )
    check_shapes(bundle)
    return bundle


def with_arrays(bundle: Bundle) -> Bundle:
    """The bundle with its arrays and those of its parts, each of which is a bundle of its own kind."""
    manifest, replace = bundle.manifest, msgspec.structs.replace
    arrays = {name: open_array(bundle.file(f"{name}.npy")) for name in array_names(manifest)}
    speaker = speaker_of(manifest)
    parts = {
        name: with_arrays(
            replace(
                bundle,
                manifest=part_of(manifest, name),
                outcomes=bundle.outcomes if name == speaker else None,
                prefix=f"{name}.",
            )
        )
        for name in manifest.parts
    }
    return replace(bundle, arrays=arrays, parts=parts)


def part_of(manifest: Manifest, name: str) -> Manifest:
    """The manifest as it were if the blend's part stood alone."""
    start = f"{name}."
    params = {key.removeprefix(start): value for key, value in manifest.params.items() if key.startswith(start)}
    return msgspec.structs.replace(manifest, kind=manifest.parts[name], params=params, parts={})


def speaker_of(manifest: Manifest) -> str | None:
    """The part of a blend that tells its outcomes: the first with an encoder."""
    return next((name for name, kind in manifest.parts.items() if kind == ENCODER_KIND), None)


def model_files(manifest: Manifest) -> list[str]:
    """Files that the model's numbers are in, those of a blend's parts among them."""
    own = [*(f"{name}.npy" for name in array_names(manifest)), *([ENCODER] if manifest.kind == ENCODER_KIND else [])]
    return own + [f"{name}.{file}" for name in manifest.parts for file in model_files(part_of(manifest, name))]


def needed_params(manifest: Manifest) -> list[str]:
    own = list(PARAMS.get(manifest.kind, ()))
    return own + [f"{name}.{param}" for name in manifest.parts for param in needed_params(part_of(manifest, name))]


def read_manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST
    if not file.is_file():
        raise BundleError(f"{file} does not exist: {folder} is not a bundle (make one with: shopkeeper export)")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{file} is larger than {MAX_MANIFEST_BYTES} bytes")
    manifest = decode(file, Manifest)
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(f"{file}: format {manifest.format_version}, this version reads {FORMAT_VERSION}")
    if manifest.kind not in ARRAYS:
        raise BundleError(f"{file}: unknown kind of model {manifest.kind!r}")
    if bool(manifest.parts) != (manifest.kind == BLEND):
        raise BundleError(f"{file}: parts are what a blend has, and it alone; this is of kind {manifest.kind}")
    for kind in manifest.parts.values():
        if kind not in ARRAYS or kind == BLEND:
            raise BundleError(f"{file}: parts: unknown kind of model {kind!r}")
    if not 0 <= manifest.score_tolerance <= MAX_TOLERANCE:
        raise BundleError(f"{file}: score_tolerance={manifest.score_tolerance} is not between 0 and {MAX_TOLERANCE}")
    return manifest


def read_outcomes(folder: Path, manifest: Manifest) -> Outcomes:
    file = folder / OUTCOMES
    outcomes = decode(file, Outcomes)
    try:
        outcomes.check(manifest.tasks)
    except ValueError as error:
        raise BundleError(f"{file}: {error}") from error
    if outcomes.outcomes and manifest.kind != ENCODER_KIND and speaker_of(manifest) is None:
        raise BundleError(f"{file}: outcomes: a {manifest.family} bundle has no encoder that tells them")
    return outcomes


def array_names(manifest: Manifest) -> list[str]:
    """Names (without .npy) of the arrays that this kind of model brings."""
    per_task = TASK_ARRAYS.get(manifest.kind, ())
    own = [INPUTS] if manifest.kind == ENCODER_KIND and f"{INPUTS}.npy" in manifest.files else []
    return [*ARRAYS[manifest.kind], *own, *(f"{name}_{task}" for name in per_task for task in manifest.tasks)]


def verify_file(folder: Path, name: str, entry: FileEntry) -> None:
    """Refuse names that leave the folder, links, and files whose size or hash is not the manifest's."""
    if name != Path(name).name or name in ("", ".", "..") or "\\" in name:
        raise BundleError(f"{folder / MANIFEST}: {name!r} is not a plain file name")
    file = folder / name
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{file} is missing")
    if file.stat().st_size != entry.size:
        raise BundleError(f"{file} has {file.stat().st_size} bytes, the manifest says {entry.size}: it was changed")
    if sha256_of(file) != entry.sha256:
        raise BundleError(f"{file} does not have the hash the manifest says: it was changed")


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def decode(file: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: {error}") from error


def open_array(file: Path) -> npt.NDArray[Any]:
    """Memory-map a numeric array; object arrays, which would be pickles, are refused."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(f"{file}: {error}") from error


def check_shapes(bundle: Bundle) -> None:
    manifest, folder = bundle.manifest, bundle.path
    if len(bundle.item_ids) != manifest.num_items:
        raise BundleError(f"{folder / ITEM_IDS}: {len(bundle.item_ids)} ids, the manifest says {manifest.num_items}")
    if list(bundle.vocabulary.context) != manifest.context:
        raise BundleError(f"{folder / VOCABULARY}: context columns are not the manifest's")
    per_task = (len(manifest.tasks), manifest.num_items)
    for name, array in bundle.arrays.items():
        table = name in (PRIOR, "bias", "repeat")
        wrong = array.shape != per_task if table else name == "items" and array.shape[:1] != (manifest.num_items,)
        wrong |= name == INPUTS and array.shape != bundle.arrays["items"].shape
        if wrong:
            raise BundleError(f"{bundle.file(name)}.npy: shape {array.shape} does not fit {manifest.num_items} items")
        if array.dtype.kind not in "fi":
            raise BundleError(f"{bundle.file(name)}.npy: type {array.dtype} is not numeric")
    check_tables(bundle)
    if manifest.kind == BLEND:
        check_weights(bundle)
    for part in bundle.parts.values():
        check_shapes(part)


def check_weights(bundle: Bundle) -> None:
    """Refuse weights that are not one per task, bucket and part, and buckets that do not begin at 0 and rise."""
    ks, weights = bundle.arrays["ks"], bundle.arrays["weights"]
    if ks.ndim != 1 or ks.dtype.kind != "i" or list(ks[:1]) != [0] or (np.diff(ks) <= 0).any():
        raise BundleError(f"{bundle.file('ks')}.npy: holds no numbers of steps that rise from 0")
    wanted = (len(bundle.manifest.tasks), len(ks), len(bundle.parts))
    if weights.shape != wanted:
        raise BundleError(f"{bundle.file('weights')}.npy: shape {weights.shape}, expected {wanted}")


def check_tables(bundle: Bundle) -> None:
    """Refuse what is no sparse table of the rows and columns that this kind of model needs."""
    kind, items, arrays = bundle.manifest.kind, bundle.manifest.num_items, bundle.arrays
    if kind not in TASK_ARRAYS:
        return
    rows = items
    if kind == "context":
        rows = sum(len(values) for values in bundle.vocabulary.context.values())
    if kind in ("sessions", "visitors"):
        rows = check_vector(bundle, "sessions_worth" if kind == "sessions" else "visitors_norm")
        check_sparse(bundle, f"{kind}_{{}}", rows=items, columns=rows)
    if "item_weight" in arrays:
        check_vector(bundle, "item_weight", length=items)
    for task in bundle.manifest.tasks:
        check_sparse(bundle, f"{{}}_{task}", rows=rows, columns=items)
    for name in ("neighbours", "group_size", "most_recent", "max_query"):
        if bundle.manifest.params.get(name, 1) < 1:
            raise BundleError(f"{bundle.path / MANIFEST}: params.{name} is below 1")


def check_vector(bundle: Bundle, name: str, *, length: int | None = None) -> int:
    """Refuse an array that is no vector (of that length, if one is given, else of any but zero); its length."""
    shape = bundle.arrays[name].shape
    if len(shape) != 1 or not shape[0] or length not in (None, shape[0]):
        raise BundleError(f"{bundle.file(name)}.npy: shape {shape} does not fit {bundle.manifest.num_items} items")
    return int(shape[0])


def check_sparse(bundle: Bundle, names: str, *, rows: int, columns: int) -> None:
    """Refuse arrays that are no sparse table of rows by columns; `names` says what its parts are called."""
    starts, places, weights = (names.format(part) for part in SPARSE)
    indptr, indices, values = (bundle.arrays[name] for name in (starts, places, weights))
    begins = indptr.shape == (rows + 1,) and indptr.dtype.kind == "i" and (np.diff(indptr) >= 0).all()
    if not begins or (indptr[0], indptr[-1]) != (0, indices.size):
        raise BundleError(f"{bundle.file(starts)}.npy: does not say where the {rows} rows begin")
    if indices.ndim != 1 or indices.dtype.kind != "i" or not within(indices, columns):
        raise BundleError(f"{bundle.file(places)}.npy: is no list of places below {columns}")
    if values.shape != indices.shape:
        raise BundleError(f"{bundle.file(weights)}.npy: shape {values.shape}, expected {indices.shape}")


def within(indices: npt.NDArray[Any], count: int) -> bool:
    return not len(indices) or bool(indices.min() >= 0 and indices.max() < count)
