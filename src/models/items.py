"""The item side of a neural model: what is learned of each item, gathered for the items a step needs and no others."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.models.contract import FitData
from shopkeeper.models.cooccurrence import item_vectors

NOISE = 0.1
"""Random part of an item's vector beside what co-occurrence says: items that occur together alike stay two."""


class Items(NamedTuple):
    """What is learned of the items `code`; R items, row 0 is code 0, nobody: zeros."""

    code: Tensor  # (R,) int64, ascending
    vector: Tensor  # (R, D) of unit length
    bias: Tensor  # (R, H), score before anything is known of the visitor
    repeat: Tensor  # (R, H), the item's own raise where it stands in the history
    popularity: Tensor  # (R, H), log of recent popularity

    def rows(self, codes: Tensor) -> Tensor:
        """Where the given codes, all of them among `code`, stand."""
        return torch.searchsorted(self.code, codes)


class ItemTable(nn.Module):
    """Vector, bias and repeat term of V items, looked up with sparse gradients: a step costs by the items it names.

    Unit-length vectors follow NISER (Gupta et al. 2019, arXiv:1909.04276).

    Args:
        num_items: V.
        dim: D, length of a vector.
        num_tasks: H.
        half_life_days: how fast an event loses weight in the popularity that scores start from.
    """

    def __init__(self, *, num_items: int, dim: int, num_tasks: int, half_life_days: float) -> None:
        super().__init__()
        self.half_life_days = half_life_days
        self.vector = nn.Embedding(num_items + 1, dim, sparse=True)
        self.bias = nn.Embedding(num_items + 1, num_tasks, sparse=True)
        self.repeat = nn.Embedding(num_items + 1, num_tasks, sparse=True)
        self.popularity_weight = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("popularity", torch.zeros(num_items + 1, num_tasks))
        self.popularity: Tensor
        nn.init.normal_(self.vector.weight, std=dim**-0.5)
        nn.init.zeros_(self.vector.weight[:1].detach())
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.repeat.weight)

    @property
    def num_items(self) -> int:
        return self.vector.num_embeddings - 1

    def fit(self, data: FitData, tasks: list[str]) -> None:
        """Start from what counting knows: recent log popularity, and vectors of items bought or looked at together."""
        vectors = torch.from_numpy(item_vectors(data, self.vector.embedding_dim))
        own = self.vector.weight.detach()[1:]
        seen = (vectors != 0).any(dim=1, keepdim=True)
        own.copy_(torch.where(seen, vectors + NOISE * own, own))
        for h, task in enumerate(tasks):
            recent = torch.from_numpy(data.target_counts(task, half_life_days=self.half_life_days))
            self.popularity[1:, h] = torch.log((recent + 0.1) / (recent + 0.1).mean())

    def only(self, codes: Tensor) -> Items:
        """The given items and nobody; codes in any order, with repeats."""
        code = torch.unique(F.pad(codes, (1, 0)))
        return self.at(code)

    def all(self) -> Items:
        """The whole catalogue (V + 1 rows)."""
        return self.at(torch.arange(self.num_items + 1, device=self.popularity.device))

    def at(self, code: Tensor) -> Items:
        popularity = self.popularity[code]
        return Items(
            code=code,
            vector=F.normalize(self.vector(code), dim=-1),
            bias=self.bias(code) + self.popularity_weight * popularity,
            repeat=self.repeat(code),
            popularity=popularity,
        )
