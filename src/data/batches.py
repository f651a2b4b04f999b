"""Prepared rows -> tensors: histories of similar length together, by token budget, nothing per row in Python.

A history is one context token (position 0) and then a token per step; a step is a bag of items with an event, a
time and context. Shapes: B histories, T tokens, C context columns, U distinct items of a history, N bag entries.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from shopkeeper.data import schema as s
from shopkeeper.data.examples import Examples, window_steps
from shopkeeper.data.outcomes import MASKED, Labels, Outcome
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.data.targets import Moments, Targets


class Vocabulary(NamedTuple):
    """Sizes a model was built for; a larger code is unknown to it (0). Context sizes in column order."""

    num_items: int
    num_events: int
    context: tuple[int, ...]

    @classmethod
    def of(cls, prepared: Prepared, *, refit: bool) -> "Vocabulary":
        return cls(
            prepared.num_items(refit=refit),
            len(prepared.vocabulary(s.EVENT, refit=refit)),
            tuple(len(prepared.vocabulary(c, refit=refit)) for c in prepared.context_columns),
        )


class TaskTargets(NamedTuple):
    """Targets of one task: entry j says that token `cell[j]` (b * T + t) should rank `item[j]`, with `weight[j]`.

    `slot[j]` is the item's place among the distinct items of the history (`Batch.seen`), -1 where it is not there.
    Weights of a token sum to 1; M entries.
    """

    cell: Tensor
    item: Tensor
    weight: Tensor
    slot: Tensor


class Batch(NamedTuple):
    """Histories as tensors; codes are 0 where padded, absent or unknown."""

    event: Tensor  # (B, T) int64; s.ENTRY_EVENT at position 0
    context: Tensor  # (B, T, C) int64
    time: Tensor  # (B, T) int64, seconds UTC; -1 unknown
    length: Tensor  # (B,) int64, tokens including the context token
    bag_item: Tensor  # (N,) int64, items of the steps
    bag_cell: Tensor  # (N,) int64, b * T + t of the step that holds the item
    bag_slot: Tensor  # (N,) int64, which of the history's distinct items it is
    seen: Tensor  # (B, U) int64, distinct items of each history
    last_item: Tensor  # (B,) int64, item of the latest row that names one; 0 where none does or it is unknown
    targets: tuple[TaskTargets, ...]
    labels: tuple[Tensor, ...] = ()  # per outcome (B, T) int64, its class after each token; MASKED where nobody knows

    def to(self, device: torch.device) -> "Batch":
        """The histories on a device; targets and labels stay where they are."""
        # types cannot tell that a tensor stays a tensor and the rest what it is
        return Batch(*(x.to(device) if isinstance(x, Tensor) else x for x in self))  # type: ignore[arg-type]


class Pieces(NamedTuple):
    """Histories to turn into a batch: steps [first, last), rows before `limit`; each (B,).

    `opens` is true where the piece begins where a visit does: then its context token is the session's entry; else
    (a history cut to its last steps) it is the context and time of the first step that is left.
    """

    first: IntArray
    last: IntArray
    limit: IntArray
    opens: np.ndarray

    def take(self, index: np.ndarray) -> "Pieces":
        return Pieces(*(column[index] for column in self))


def example_pieces(examples: Examples, max_len: int) -> Pieces:
    """Each example's visible history, cut to its last `max_len` steps."""
    first = np.maximum(examples.first, examples.last - max_len)
    return Pieces(first, examples.last, examples.limit, first == examples.first)


def collate(prepared: Prepared, pieces: Pieces, vocabulary: Vocabulary) -> Batch:
    """Build the batch of the given histories, without targets."""
    steps = pieces.last - pieces.first
    width = int(steps.max(initial=0)) + 1
    step = ragged_ranges(pieces.first, pieces.last)
    owner = np.repeat(np.arange(len(steps)), steps)
    cell = owner * width + 1 + step - pieces.first[owner]
    offsets = prepared.step_offsets
    row = offsets[step]
    event = np.zeros((len(steps), width), np.int64)
    time = np.full((len(steps), width), -1, np.int64)
    context = np.zeros((len(steps), width, len(vocabulary.context)), np.int64)
    event[:, 0] = s.ENTRY_EVENT
    time[:, 0], context[:, 0] = entry(prepared, pieces)
    event.ravel()[cell] = prepared.rows["event"][row]
    time.ravel()[cell] = prepared.rows["time"][row] // 1_000_000
    context.reshape(event.size, len(vocabulary.context))[cell] = prepared.context(prepared.rows, row)
    end = np.minimum(offsets[step + 1], pieces.limit[owner])
    bag_row = ragged_ranges(row, end)
    bag_cell = np.repeat(cell, np.maximum(end - row, 0))
    item = np.asarray(prepared.rows["item"])[bag_row].astype(np.int64)
    kept = (item > 0) & (item <= vocabulary.num_items)
    last_item = np.zeros(len(steps), np.int64)
    last_item[bag_cell[item > 0] // width] = item[item > 0]  # rows are in time order: the last assignment wins
    seen, bag_slot = distinct_items(bag_cell[kept] // width, item[kept], len(steps), vocabulary.num_items)
    known = np.asarray(vocabulary.context, np.int64)
    return Batch(
        event=torch.from_numpy(np.where(event > vocabulary.num_events, s.PAD, event)),
        context=torch.from_numpy(np.where(context > known, s.PAD, context)),
        time=torch.from_numpy(time),
        length=torch.from_numpy(steps + 1),
        bag_item=torch.from_numpy(item[kept]),
        bag_cell=torch.from_numpy(bag_cell[kept]),
        bag_slot=torch.from_numpy(bag_slot),
        seen=torch.from_numpy(seen),
        last_item=torch.from_numpy(np.where(last_item > vocabulary.num_items, s.PAD, last_item)),
        targets=(),
    )


def entry(prepared: Prepared, pieces: Pieces) -> tuple[IntArray, IntArray]:
    """Time in seconds (B,) and context codes (B, C) of each piece's context token."""
    row = np.minimum(prepared.step_offsets[pieces.first], len(prepared.rows["time"]) - 1)
    session = np.asarray(prepared.rows["session"])[row]
    time = np.where(pieces.opens, prepared.sessions["time"][session], prepared.rows["time"][row])
    context = np.where(
        np.asarray(pieces.opens)[:, None],
        prepared.context(prepared.sessions, session),
        prepared.context(prepared.rows, row),
    )
    return time // 1_000_000, context


def distinct_items(owner: IntArray, item: IntArray, count: int, num_items: int) -> tuple[IntArray, IntArray]:
    """Distinct items of each owner as (count, U >= 1), ascending and 0-padded, and each entry's place among them."""
    keys, inverse = np.unique(owner * (num_items + 1) + item, return_inverse=True)
    key_owner = keys // (num_items + 1)
    sizes = np.bincount(key_owner, minlength=count)
    place = np.arange(len(keys)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    seen = np.zeros((count, max(int(sizes.max(initial=0)), 1)), np.int64)
    seen[key_owner, place] = keys % (num_items + 1)
    return seen, place[inverse.reshape(-1)].astype(np.int64)


def find_slots(seen: IntArray, owner: IntArray, item: IntArray) -> IntArray:
    """Place of each (owner, item) in `seen` (B, U), as built by `distinct_items`; -1 where it is absent."""
    width = int(max(seen.max(initial=0), item.max(initial=0))) + 1
    row, place = np.nonzero(seen)
    keys = row * width + seen[row, place]
    wanted = owner * width + item
    at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    return np.where(keys[at] == wanted, place[at], -1) if len(keys) else np.full(len(wanted), -1, np.int64)


class TrainingPieces(Dataset[Batch]):
    """Every training history, cut into pieces of at most `max_len` steps at borders drawn anew each epoch.

    A piece is a stranger made on purpose: it sees nothing of what came before it, so every position from the
    context token on is trained as a cold start. Index it with an array of piece numbers to get a batch.
    """

    def __init__(
        self,
        prepared: Prepared,
        window: Window,
        vocabulary: Vocabulary,
        tasks: list[str],
        outcomes: Sequence[Outcome] = (),
        *,
        max_len: int,
        seed: int,
    ) -> None:
        self.prepared, self.window, self.vocabulary = prepared, window, vocabulary
        self.tasks, self.outcomes = tasks, [outcome.name for outcome in outcomes]
        self.max_len, self.seed = max_len, seed
        self.lookup, self.labels = Targets(prepared), Labels(prepared, list(outcomes))
        self.first, self.count = window_steps(prepared, window)
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the borders of an epoch: the same epoch has the same pieces, whatever ran before."""
        rng = np.random.default_rng([self.seed, epoch])
        head = np.where(self.count > self.max_len, rng.integers(1, self.max_len + 1, len(self.count)), self.count)
        rest = -(-(self.count - head) // self.max_len)
        owner = np.repeat(np.arange(len(self.count)), 1 + rest)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(1 + rest) - (1 + rest), 1 + rest)
        begin = np.where(number > 0, head[owner] + (number - 1) * self.max_len, 0)
        end = np.minimum(head[owner] + number * self.max_len, self.count[owner])
        first, last = self.first[owner] + begin, self.first[owner] + end
        self.pieces = Pieces(first, last, self.window.end[owner], self._opens(first))

    def _opens(self, first: IntArray) -> np.ndarray:
        session = self.prepared.rows["session"]
        row = self.prepared.step_offsets[first]
        return np.asarray((row == 0) | (session[row] != session[np.maximum(row - 1, 0)]))

    def __len__(self) -> int:
        return len(self.pieces.first)

    def __getitem__(self, index: np.ndarray) -> Batch:
        pieces = self.pieces.take(index)
        batch = collate(self.prepared, pieces, self.vocabulary)
        cell, moments = self._moments(pieces)
        return batch._replace(
            targets=tuple(self._targets(task, cell, moments, batch) for task in self.tasks),
            labels=tuple(self._labels(name, cell, moments, batch) for name in self.outcomes),
        )

    def _moments(self, pieces: Pieces) -> tuple[IntArray, Moments]:
        """The moments after 0, 1, ..., n steps of every piece, and the token b * T + t that each one follows."""
        positions = pieces.last - pieces.first + 1
        width = int(positions.max(initial=1))
        owner = np.repeat(np.arange(len(positions)), positions)
        step = ragged_ranges(pieces.first, pieces.last + 1)
        offsets, limit = self.prepared.step_offsets, pieces.limit[owner]
        moments = Moments(offsets[pieces.first][owner], np.minimum(offsets[step], limit), limit)
        return owner * width + step - pieces.first[owner], moments

    def _targets(self, task: str, cells: IntArray, moments: Moments, batch: Batch) -> TaskTargets:
        found = self.lookup.of(task, moments)
        sizes = found.sizes
        cell = np.repeat(cells, sizes)
        weight = np.repeat(1.0 / np.maximum(sizes, 1), sizes).astype(np.float32)
        known = found.items <= self.vocabulary.num_items
        cell, item, weight = cell[known], found.items[known], weight[known]
        slot = find_slots(batch.seen.numpy(), cell // batch.event.shape[1], item)
        return TaskTargets(*(torch.from_numpy(a) for a in (cell, item, weight, slot)))

    def _labels(self, name: str, cells: IntArray, moments: Moments, batch: Batch) -> Tensor:
        labels = np.full(batch.event.shape, MASKED, np.int64)
        labels.ravel()[cells] = self.labels.of(name, moments)
        return torch.from_numpy(labels)


class TokenBatches(Sampler[np.ndarray]):
    """Batches of piece numbers: pieces of similar length together, at most `tokens` tokens each, shuffled by epoch.

    It has no length on purpose: epochs differ in theirs, and Lightning would cut all of them to the first one's.
    """

    def __init__(self, pieces: TrainingPieces, *, tokens: int, seed: int) -> None:
        self.data, self.tokens, self.seed = pieces, tokens, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.data.begin_epoch(epoch)

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.epoch, 1])
        batches = self.batches(rng)
        yield from (batches[i] for i in rng.permutation(len(batches)))

    def count(self) -> int:
        """How many batches the first epoch has; others differ a little."""
        self.data.begin_epoch(0)
        return len(self.batches(np.random.default_rng([self.seed, 0, 1])))

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Cut the pieces, sorted by length (ties in random order), where the next would pass the budget."""
        length = self.data.pieces.last - self.data.pieces.first + 1
        order = np.lexsort([rng.random(len(length)), length])
        return split_by_budget(order, length[order], self.tokens)


def split_by_budget(order: np.ndarray, length: IntArray, tokens: int) -> list[np.ndarray]:
    """Split numbers sorted by ascending length so that pieces x longest stays within `tokens` (one piece at least)."""
    batches, begin = [], 0
    while begin < len(order):
        # the padded size (i - begin + 1) * length[i] grows with i, so the last fitting piece is found by bisection
        near = length[begin : begin + tokens // int(length[begin]) + 1]
        padded = np.arange(1, len(near) + 1) * near
        size = max(int(np.searchsorted(padded, tokens, side="right")), 1)
        batches.append(order[begin : begin + size])
        begin += size
    return batches
