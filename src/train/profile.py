"""Where the time of a training goes: data, forward, backward, optimiser, and the rest of its wall time."""

import time
from collections import defaultdict

import torch
from pytorch_lightning.profilers import Profiler

NEXT, FORWARD, BACKWARD, STEP, FIT = "train_dataloader_next", "training_step", "backward", "optimizer_step", "fit"
"""Ends of the names under which Lightning tells that something begins or ends; the last is ours."""

PREFIX = "profile/"
"""Of the metrics of a run that hold its profile, in seconds."""


class Stopwatch(Profiler):
    """Adds up the seconds between the beginning and the end of what Lightning does, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    def start(self, action_name: str) -> None:
        self.began[action_name] = self.now()

    def stop(self, action_name: str) -> None:
        if action_name in self.began:
            self.seconds[action_name] += self.now() - self.began.pop(action_name)

    def now(self) -> float:
        if torch.cuda.is_available():  # what was asked of a GPU is not done yet
            torch.cuda.synchronize()
        return time.perf_counter()

    def metrics(self) -> dict[str, float]:
        """Seconds of each part, as metrics of the run; Lightning's optimiser step holds both passes."""
        forward, backward = self.of("[Strategy]", FORWARD), self.of("[Strategy]", BACKWARD)
        parts = {
            "data": self.of("", NEXT),
            "forward": forward,
            "backward": backward,
            "optimiser": self.of("[LightningModule]", STEP) - forward - backward,
        }
        parts["validation and the rest"] = self.seconds[FIT] - sum(parts.values())
        return {f"{PREFIX}{name}": seconds for name, seconds in parts.items()}

    def of(self, begin: str, end: str) -> float:
        return sum(s for name, s in self.seconds.items() if name.startswith(begin) and name.endswith(end))


def profile_text(metrics: dict[str, float]) -> str | None:
    """The profile among a run's metrics as a line: parts of the whole; None where none was asked for."""
    found = {name.removeprefix(PREFIX): s for name, s in metrics.items() if name.startswith(PREFIX)}
    whole = sum(found.values())
    largest_first = sorted(found.items(), key=lambda part: -part[1])
    return f"{whole:.1f} s: " + ", ".join(f"{name} {s / whole:.0%}" for name, s in largest_first) if found else None
