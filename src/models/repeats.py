"""What a history says of its own items, and how much each is worth again: repeat purchases are modelled, not hoped for.

Explore and repeat share one softmax (compare RepeatNet, Ren et al. 2019, arXiv:1812.02646, which mixes two): an item
of the history scores `gate(h) + mlp(counts and recencies) + own term` above what its vector says.
Legend: B histories, T tokens, U distinct items of a history, H tasks.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.data.batches import Batch

EVENT_DIM = 8
NUMBERS = 7
HIDDEN = 32


class Seen(NamedTuple):
    """What a history says of each of its distinct items at a position, (..., U) each."""

    times: Tensor  # float, entries so far
    bought: Tensor  # float, purchases among them
    steps_ago: Tensor  # float, steps since the latest
    seconds_ago: Tensor  # float
    last_event: Tensor  # int64, event code of the latest
    steps: Tensor  # float, steps so far
    popularity: Tensor  # float, log popularity of the item, by the first task


def observe(batch: Batch, popularity: Tensor, purchase_code: int) -> Seen:
    """Counts and recencies of each distinct item after every token (B, T, U).

    Args:
        popularity: of each item of `batch.seen` (B, U), whatever stands at padded places.
        purchase_code: event code of a purchase, -1 where the log has none.
    """
    (count, width), slots = batch.event.shape, batch.seen.shape[1]
    cell = batch.bag_cell * slots + batch.bag_slot
    shape, size = (count, width, slots), count * width * slots
    bought = (batch.event.view(-1)[batch.bag_cell] == purchase_code).to(popularity.dtype)
    entries = popularity.new_zeros(size).index_add_(0, cell, torch.ones_like(bought)).view(shape)
    purchases = popularity.new_zeros(size).index_add_(0, cell, bought).view(shape)
    position = torch.arange(width, device=cell.device)[None, :, None]
    last = torch.where(entries > 0, position, 0).cummax(dim=1).values  # (B, T, U), 0 = not yet
    at = batch.time[:, :, None].expand(shape).gather(1, last)
    return Seen(
        times=entries.cumsum(dim=1),
        bought=purchases.cumsum(dim=1),
        steps_ago=(position - last).to(popularity.dtype),
        seconds_ago=(batch.time[:, :, None] - at).clamp(min=0).to(popularity.dtype),
        last_event=batch.event[:, :, None].expand(shape).gather(1, last),
        steps=position.expand(shape).to(popularity.dtype),
        popularity=popularity[:, None].expand(shape),
    )


class RepeatTerm(nn.Module):
    """Raise of each seen item's score per task, without the item's own term.

    Args:
        start: per task, what an item of the history is worth before training, in log odds.
    """

    def __init__(self, *, dim: int, num_events: int, start: list[float]) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, len(start))
        self.event = nn.Embedding(num_events + 1, EVENT_DIM)
        self.into, self.out = nn.Linear(NUMBERS + EVENT_DIM, HIDDEN), nn.Linear(HIDDEN, len(start))
        nn.init.normal_(self.event.weight, std=0.02)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.out.bias.detach().copy_(torch.tensor(start))

    def forward(self, hidden: Tensor, seen: Seen) -> Tensor:
        """(..., U, H) from hidden states (..., D) and what is seen (..., U)."""
        raised: Tensor = self.worth(seen) + self.gate(hidden)[..., None, :]
        return raised

    def where(self, mask: Tensor, hidden: Tensor, seen: Seen) -> Tensor:
        """The same (B, T, U, H) where `mask` (B, T, U) holds; zero elsewhere, and not computed there."""
        b, t, u = mask.nonzero(as_tuple=True)
        values = self.worth(Seen(*(x[b, t, u] for x in seen))) + self.gate(hidden)[b, t]
        raised: Tensor = values.new_zeros(*mask.shape, values.shape[-1]).index_put((b, t, u), values)
        return raised

    def worth(self, seen: Seen) -> Tensor:
        """What counts and recencies (...) say (..., H)."""
        numbers = torch.stack(
            [
                torch.log1p(seen.times),
                torch.log1p(seen.bought),
                torch.log1p(seen.steps_ago),
                torch.log1p(seen.seconds_ago / 3600.0),
                torch.log1p(seen.steps),
                seen.times / seen.steps.clamp(min=1.0),
                seen.popularity,
            ],
            dim=-1,
        )
        raised: Tensor = self.out(F.relu(self.into(torch.cat([numbers, self.event(seen.last_event)], dim=-1))))
        return raised
