"""What a training step costs as the catalogue grows: SASRec, d = 64, sampled softmax, on made-up histories.

    python benchmarks/catalogue_scaling.py            # 10,000 and 1,000,000 items: about two minutes
    python benchmarks/catalogue_scaling.py --quick    # fewer steps

A step is what training does: loss, gradients, clipping, LazyAdamW, and the moving average of weights; 128 histories of
eight steps, whose items are drawn by popularity (rank ** -1). Each size runs in a process of its own; memory is its
largest resident set. The last line is one JSON object with the median `step_time_1m_over_10k`, `peak_memory_gb_1m`, and
`beyond_table_gb_1m`: what of it is neither the item table nor its optimiser's state.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from shopkeeper.data.batches import Batch

SIZES = {"10k": 10_000, "1m": 1_000_000}
DIM, HISTORIES, STEPS, NEGATIVES = 64, 128, 8, 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--items", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps = 40 if arguments.quick else 200
    if arguments.items:
        print(json.dumps(measure(arguments.items, steps)))
        return
    told = {}
    for name, items in SIZES.items():
        command = [sys.executable, __file__, f"--items={items}", *(["--quick"] if arguments.quick else [])]
        told[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"{items:>9,} items: {told[name]['ms']:.1f} ms a step, {told[name]['gb']:.2f} GB")
    table = SIZES["1m"] * DIM * 4 * 3 / 1e9  # the table, and two moments of its optimiser
    figures = {
        "step_time_1m_over_10k": round(told["1m"]["ms"] / told["10k"]["ms"], 3),
        "peak_memory_gb_1m": round(told["1m"]["gb"], 2),
        "beyond_table_gb_1m": round(told["1m"]["gb"] - table, 2),
    }
    print(json.dumps({"benchmark": "catalogue_scaling", "figures": figures}))


def measure(num_items: int, steps: int) -> dict[str, float]:
    """Median milliseconds of a step after a warm-up, and the largest resident set in GB."""
    import numpy as np
    import torch

    from shopkeeper.config import OptimizerConfig
    from shopkeeper.data.batches import Vocabulary
    from shopkeeper.models.criteria import make_criterion
    from shopkeeper.models.sasrec import SASRec
    from shopkeeper.train.lazy import clip_gradients
    from shopkeeper.train.module import TrainingModule

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    popularity = 1.0 / np.arange(1, num_items + 1)
    popularity /= popularity.sum()
    model = SASRec(
        vocabulary=Vocabulary(num_items=num_items, num_events=2, context=()),
        tasks=["next"],
        max_len=STEPS,
        embed_dim=DIM,
        num_layers=2,
        num_heads=2,
        dropout=0.2,
        likeness={"next": 6.0},
        repeat_start={"next": 0.0},
        half_life_days=28.0,
        context_dropout=0.1,
        purchase_code=2,
    )
    settings = OptimizerConfig(
        lr=0.002, weight_decay=0.01, warmup_steps=10, clip_norm=1.0, average=0.998, heads_lr=0.01
    )
    criterion = make_criterion(torch.from_numpy(popularity * 1e6), num_negatives=NEGATIVES, power=0.75)
    module = TrainingModule(model, weights=[1.0], criteria=[criterion], optimizer=settings, seed=0)
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    drawn = rng.choice(num_items, (steps, HISTORIES, STEPS + 1), p=popularity) + 1
    taken = []
    for items in drawn:
        batch = batch_of(items)
        began = time.perf_counter()
        optimizer.zero_grad()
        model.losses(batch, [criterion])[0].backward()
        module.average.before_step(model)
        clip_gradients(model.parameters(), settings.clip_norm)
        optimizer.step()
        module.average.after_step(model)
        taken.append((time.perf_counter() - began) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"ms": float(np.median(taken[steps // 4 :])), "gb": peak}


def batch_of(items: "np.ndarray") -> "Batch":
    """Histories of all but the last item (B, STEPS + 1), each position's target the item after it."""
    import numpy as np
    import torch

    from shopkeeper.data.batches import Batch, TaskTargets, distinct_items, find_slots

    count, width = items.shape
    owner, cell = np.divmod(np.arange(count * width), width)
    bag = cell > 0
    item = items[:, :-1].ravel()
    seen, slot = distinct_items(owner[bag], item, count, int(items.max()))
    target = items.ravel()
    tensors = [torch.from_numpy(a) for a in (np.flatnonzero(bag), item, slot, seen)]
    return Batch(
        event=torch.where(torch.from_numpy(bag).view(count, width), 2, 1),
        context=torch.zeros((count, width, 0), dtype=torch.int64),
        time=torch.arange(width).repeat(count, 1) * 60,
        length=torch.full((count,), width),
        bag_item=tensors[1],
        bag_cell=tensors[0],
        bag_slot=tensors[2],
        seen=tensors[3],
        last_item=torch.from_numpy(items[:, -2].copy()),
        targets=(
            TaskTargets(
                torch.arange(count * width),
                torch.from_numpy(target.copy()),
                torch.ones(count * width),
                torch.from_numpy(find_slots(seen, owner, target)),
            ),
        ),
    )


if __name__ == "__main__":
    main()
