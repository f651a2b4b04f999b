"""The item side of a neural model: what is learned of each item, gathered for the items a step needs and no others."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.models.content import ContentTower
from shopkeeper.models.contract import FitData
from shopkeeper.models.cooccurrence import item_vectors
from shopkeeper.models.returns import return_log_odds

NOISE = 0.1
"""Random part of an item's vector beside what co-occurrence says: items that occur together alike stay two."""


class Items(NamedTuple):
    """What is learned of the items `code`; R items, row 0 is code 0, nobody: zeros."""

    code: Tensor  # (R,) int64, ascending
    vector: Tensor  # (R, D) of unit length, which a query is multiplied with
    read: Tensor  # (R, D) of unit length, what a step that holds the item is read as; tied tables: `vector`
    bias: Tensor  # (R, H), score before anything is known of the visitor
    repeat: Tensor  # (R, H), the item's own raise where it stands in the history
    popularity: Tensor  # (R, H), log of recent popularity

    def rows(self, codes: Tensor) -> Tensor:
        """Where the given codes, all of them among `code`, stand."""
        return torch.searchsorted(self.code, codes)


class ItemTable(nn.Module):
    """Vector, bias and repeat term of V items, looked up with sparse gradients: a step costs by the items it names.

    Unit-length vectors follow NISER (Gupta et al. 2019, arXiv:1909.04276). With a content tower a vector is that of the
    item's id plus that of its content; of an item that train never saw it is that of its content alone, and it is as
    popular as its category's are.

    Args:
        num_items: V.
        dim: D, length of a vector.
        num_tasks: H.
        half_life_days: how fast an event loses weight in the popularity that scores start from.
        content: the YAML's settings of a content tower; None: ids alone.
        tie: whether steps are read by the vectors that queries are multiplied with, or by some of their own.
    """

    def __init__(
        self,
        *,
        num_items: int,
        dim: int,
        num_tasks: int,
        half_life_days: float,
        content: Mapping[str, Any] | None = None,
        tie: bool = True,
    ) -> None:
        super().__init__()
        self.half_life_days = half_life_days
        self.vector = nn.Embedding(num_items + 1, dim, sparse=True)
        self.content = ContentTower(num_items=num_items, dim=dim, settings=content) if content else None
        self.reading = None if tie else nn.Embedding(num_items + 1, dim, sparse=True)
        self.bias = nn.Embedding(num_items + 1, num_tasks, sparse=True)
        self.repeat = nn.Embedding(num_items + 1, num_tasks, sparse=True)
        self.popularity_weight = nn.Parameter(torch.ones(num_tasks))
        self.returns_weight = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("popularity", torch.zeros(num_items + 1, num_tasks))
        self.register_buffer("expected", torch.zeros(num_items + 1 if content else 0, num_tasks))
        self.register_buffer("returns", torch.zeros(num_items + 1, num_tasks))
        self.returns: Tensor
        self.popularity: Tensor
        self.expected: Tensor  # popularity of the items of a category, for one that stands for itself by its content
        nn.init.normal_(self.vector.weight, std=dim**-0.5)
        nn.init.zeros_(self.vector.weight[:1].detach())
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.repeat.weight)
        if self.reading is not None:
            self.reading.weight.detach().copy_(self.vector.weight)

    @property
    def num_items(self) -> int:
        return self.vector.num_embeddings - 1

    def fit(self, data: FitData, tasks: list[str]) -> None:
        """Start from what counting knows: recent log popularity, and vectors of items bought or looked at together."""
        vectors = torch.from_numpy(item_vectors(data, self.vector.embedding_dim))
        own = self.vector.weight.detach()[1:]
        seen = (vectors != 0).any(dim=1, keepdim=True)
        own.copy_(torch.where(seen, vectors + NOISE * own, own))
        recent = torch.stack(
            [torch.from_numpy(data.target_counts(t, half_life_days=self.half_life_days)) for t in tasks], dim=1
        )
        usual = (recent + 0.1).mean(dim=0)
        self.popularity[1:] = torch.log((recent + 0.1) / usual)
        self.returns[1:] = torch.stack([torch.from_numpy(return_log_odds(data, task)) for task in tasks], dim=1)
        if self.content is not None:
            self.content.fit(data.catalogue(), data.event_counts(), vectors)
            every = torch.arange(1, len(own) + 1)
            own.sub_(self.content(every).detach())
            likely = torch.stack([self.content.expected(count) for count in recent.T], dim=1)
            likely = torch.where(self.content.described(every)[:, None], likely, recent)
            self.expected[1:] = torch.log((likely + 0.1) / usual)
            self.popularity[1:] = torch.where(self.content.new[1:, None], self.expected[1:], self.popularity[1:])
        if self.reading is not None:
            self.reading.weight.detach().copy_(self.vector.weight)

    def only(self, codes: Tensor) -> Items:
        """The given items and nobody; codes in any order, with repeats."""
        code = torch.unique(F.pad(codes, (1, 0)))
        return self.at(code)

    def all(self) -> Items:
        """The whole catalogue (V + 1 rows)."""
        return self.at(torch.arange(self.num_items + 1, device=self.popularity.device))

    def at(self, code: Tensor) -> Items:
        own, bias, popularity = self.vector(code), self.bias(code), self.popularity[code]
        repeat = self.repeat(code) + self.returns_weight * self.returns[code]
        read = own if self.reading is None else self.reading(code)
        if self.content is not None:
            by_content, kept = self.content(code), ~self.content.stands_in(code)[:, None]
            own, read = own * kept + by_content, read * kept + by_content
            bias, repeat = bias * kept, repeat * kept
            popularity = torch.where(kept, popularity, self.expected[code])
        vector = F.normalize(own, dim=-1)
        return Items(
            code=code,
            vector=vector,
            read=vector if self.reading is None else F.normalize(read, dim=-1),
            bias=bias + self.popularity_weight * popularity,
            repeat=repeat,
            popularity=popularity,
        )
