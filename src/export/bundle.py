"""Write a bundle: every model family as tables (and one graph), with hashes and golden requests."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from shopkeeper import __version__
from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.card import Origin, model_card
from shopkeeper.export.golden import golden_lines
from shopkeeper.export.graph import write_graph
from shopkeeper.export.outcomes import outcomes_file
from shopkeeper.export.parity import check_parity
from shopkeeper.models.baselines import CountedModel
from shopkeeper.models.blend import Blend
from shopkeeper.models.contract import SessionModel
from shopkeeper.models.neural import NeuralModel

SCORE_TOLERANCE = 1e-4


def write_bundle(
    model: SessionModel, prepared: Prepared, output: Path, *, origin: Origin, golden: int, seed: int
) -> Path:
    """Write the bundle at `output`, whole or not at all, once it answers as the model does.

    Raises:
        UserError: when `output` is a folder that is no bundle, or shopkeeper-serving is not installed.
    """
    require_serving()
    from shopkeeper_serving.bundle import OUTCOMES

    if output.exists() and any(output.iterdir()) and not (output / "manifest.json").exists():
        raise UserError(f"output={output} exists and is not a bundle; choose another folder")
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        refit = origin.refit_of is not None
        write_tables(model, partial)
        dump(partial / "item_ids.json", prepared.item_ids()[: model.vocabulary.num_items])
        dump(partial / "vocabulary.json", vocabulary(prepared, refit=refit))
        told = outcomes_file(model)
        if told is not None:
            dump(partial / OUTCOMES, told)
        (partial / "MODEL_CARD.md").write_text(model_card(model, prepared, origin))
        (partial / "golden.jsonl").write_text("")
        write_manifest(model, prepared, partial, origin)
        (partial / "golden.jsonl").write_text(golden_lines(model, partial, count=golden, seed=seed))
        write_manifest(model, prepared, partial, origin)
        check_parity(model, prepared, partial, tolerance=SCORE_TOLERANCE)
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def require_serving() -> None:
    import importlib.util

    if importlib.util.find_spec("shopkeeper_serving") is None:
        raise UserError("export replays requests with shopkeeper-serving, which is missing: pip install ./serving")


def write_tables(model: SessionModel, folder: Path, *, prefix: str = "") -> None:
    """The model's numbers, each table as one .npy file whose name begins with `prefix`."""

    def save(name: str, table: Tensor) -> None:
        np.save(folder / f"{prefix}{name}.npy", np.ascontiguousarray(table.detach().numpy()))

    save("prior", model.prior_scores())
    if isinstance(model, NeuralModel):
        items = model.catalogue()
        save("items", items.vector[1:])
        if items.read is not items.vector:
            save("inputs", items.read[1:])
        save("bias", items.bias[1:].T)
        save("repeat", items.repeat[1:].T)
        write_graph(model, folder / f"{prefix}encoder.onnx")
    elif isinstance(model, CountedModel):
        for name, table in model.state_dict().items():
            stem, _, head = name.rpartition("_")
            save(f"{stem}_{model.tasks[int(head)]}" if head.isdigit() else name, table)
    elif isinstance(model, Blend):
        save("weights", model.weights)
        save("ks", model.ks)
        for name, part in model.named_parts().items():
            write_tables(part, folder, prefix=f"{name}.")


def params_of(model: SessionModel) -> dict[str, float]:
    """Numbers that scoring needs beside the tables; those of a blend's parts under the part's name and a dot."""
    if isinstance(model, Blend):
        return {f"{n}.{key}": v for n, part in model.named_parts().items() for key, v in params_of(part).items()}
    return model.params() if isinstance(model, CountedModel) else {}


def vocabulary(prepared: Prepared, *, refit: bool) -> dict[str, Any]:
    return {
        "event": prepared.vocabulary(s.EVENT, refit=refit),
        "context": {c: prepared.vocabulary(c, refit=refit) for c in prepared.context_columns},
    }


def write_manifest(model: SessionModel, prepared: Prepared, folder: Path, origin: Origin) -> None:
    from shopkeeper_serving.bundle import FORMAT_VERSION, sha256_of

    files = sorted(f for f in folder.iterdir() if f.name != "manifest.json")
    dump(
        folder / "manifest.json",
        {
            "format_version": FORMAT_VERSION,
            "name": f"{prepared.manifest['source']}-{model.family}",
            "version": origin.run_id,
            "kind": model.kind,
            "family": model.family,
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "tasks": model.tasks,
            "num_items": model.vocabulary.num_items,
            "max_len": model.max_len,
            "order_only": prepared.order_only,
            "receipt_gap_seconds": prepared.manifest["receipt_gap_minutes"] * 60,
            "purchase_event": s.PURCHASE,
            "context": prepared.context_columns,
            "params": params_of(model),
            "parts": {n: p.kind for n, p in model.named_parts().items()} if isinstance(model, Blend) else {},
            "run_id": origin.run_id,
            "refit_of": origin.refit_of,
            "dataset_hash": prepared.content_hash,
            "shopkeeper_version": __version__,
            "score_tolerance": SCORE_TOLERANCE,
            "files": {f.name: {"size": f.stat().st_size, "sha256": sha256_of(f)} for f in files},
        },
    )


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1 if isinstance(value, dict) else None))
