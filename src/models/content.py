"""What the catalogue says of an item: codes of its category, brand, price and title, and the tower that makes them one
vector, so that an item nobody has chosen yet is like those it resembles.

    content_i = sum of E_c over the codes c of item i

A code is a value's hash: the category's path down to each level, the brand, both together, the fifth (or other tier) of
the prices of its category that the item's lies in, and the words of the title. A value that no item of train has is
left out. Legend: V items, C codes of an item, D length of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.data import schema as s

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ContentSettings:
    """The YAML's `content`.

    Attributes:
        levels: of the category's path.
        tiers: of the price within a category.
        title_tokens: words of a title that are read.
        buckets: codes; values that share one are taken for the same.
        id_dropout: share of items that a training step sees as if they were new: by their content alone.
        cold_items: whether the items of the catalogue that train never saw are ranked too.
    """

    levels: int
    tiers: int
    title_tokens: int
    buckets: int
    id_dropout: float
    cold_items: bool

    def __post_init__(self) -> None:
        for name, least in (("levels", 0), ("tiers", 1), ("title_tokens", 0), ("buckets", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"content.{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.id_dropout < 1:
            raise ValueError(f"content.id_dropout={self.id_dropout} must be at least 0 and below 1")

    @property
    def width(self) -> int:
        """C"""
        return self.levels + 3 + self.title_tokens


class ContentTower(nn.Module):
    """Vectors of items by what the catalogue says of them, from one small table whatever the catalogue's size."""

    def __init__(self, *, num_items: int, dim: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = ContentSettings(**settings)
        self.table = nn.Embedding(self.settings.buckets + 1, dim, padding_idx=0)
        self.register_buffer("codes", torch.zeros(num_items + 1, self.settings.width, dtype=torch.int32))
        self.register_buffer("new", torch.zeros(num_items + 1, dtype=torch.bool))
        self.codes: Tensor
        self.new: Tensor
        nn.init.zeros_(self.table.weight)

    def forward(self, code: Tensor) -> Tensor:
        """(R, D) of the items `code`."""
        rows = self.codes[code].long()
        return F.embedding_bag(rows, self.table.weight, mode="sum", padding_idx=0)

    def stands_in(self, code: Tensor) -> Tensor:
        """Whether content alone speaks for each of the items (R,): of new ones, in training of others by chance."""
        new = self.new[code]
        if self.training and self.settings.id_dropout:
            new = new | self.described(code) & (torch.rand(len(code), device=new.device) < self.settings.id_dropout)
        return new

    def described(self, code: Tensor) -> Tensor:
        """Whether the catalogue says anything of each of the items (R,)."""
        return (self.codes[code] > 0).any(dim=1)

    def fit(self, catalogue: pd.DataFrame, events: npt.NDArray[np.floating], vectors: Tensor) -> None:
        """Read the catalogue (V rows); every code starts as the mean of its items' vectors (V, D).

        Args:
            events: of each item in train (V,); one without is new.
        """
        codes = content_codes(catalogue, events > 0, self.settings)
        self.codes[1:] = torch.from_numpy(codes.astype(np.int32))
        self.new[1:] = torch.from_numpy(events == 0)
        item, _ = np.nonzero(codes)
        code = torch.from_numpy(codes[codes > 0])
        known = (vectors[item] != 0).any(dim=1)
        total = torch.zeros_like(self.table.weight).index_add_(0, code[known], vectors[item][known])
        count = torch.bincount(code[known], minlength=len(total)).clamp(min=1)
        share = 1 / max(float((codes > 0).sum(axis=1).mean()), 1.0)
        self.table.weight.detach().copy_(share * total / count[:, None])

    def expected(self, counts: Tensor) -> Tensor:
        """What an item of the same kind counts on average (V,), by the finest code of its category; from (V,)."""
        finest = self.finest().numpy()
        total = np.bincount(finest, counts.numpy())
        size = np.bincount(finest)
        return torch.from_numpy((total / np.maximum(size, 1))[finest]).to(counts.dtype)

    def finest(self) -> Tensor:
        """Code of the longest known path of each item's category (V,), 0 where it has none."""
        finest = torch.zeros(len(self.codes) - 1, dtype=torch.int64)
        for level in range(self.settings.levels):
            own = self.codes[1:, level].long()
            finest = torch.where(own > 0, own, finest)
        return finest


def content_codes(catalogue: pd.DataFrame, known: BoolArray, settings: ContentSettings) -> IntArray:
    """Codes (V, C) from 1, 0 where there is none; `known` (V,) are the items whose values have a code."""
    category, brand = catalogue[s.CATEGORY].astype(object), catalogue[s.BRAND].astype(object)
    parts = category.str.split(s.PATH, expand=True).reindex(columns=range(settings.levels))
    paths = [parts[0]] if settings.levels else []
    for level in range(1, settings.levels):
        paths.append(paths[-1] + s.PATH + parts[level])
    tier = price_tiers(category, catalogue[s.PRICE].to_numpy(np.float64), known, settings.tiers)
    columns = [("category", path) for path in paths]
    columns += [("brand", brand), ("kind", brand + " of " + category), ("price", tier)]
    columns += [("title", word) for word in title_words(catalogue[s.TITLE], settings.title_tokens)]
    codes = np.stack([hashed(name, values, settings.buckets) for name, values in columns], axis=1)
    in_use = np.zeros(settings.buckets + 1, bool)
    in_use[codes[known]] = True
    return np.where(in_use[codes], codes, 0)


def price_tiers(category: pd.Series, price: npt.NDArray[np.float64], known: BoolArray, tiers: int) -> pd.Series:
    """Which of `tiers` equal parts of the known prices of its category each item's lies in, as text."""
    group = category.fillna("")
    shares = np.arange(1, tiers) / tiers
    priced = pd.Series(price)[known & np.isfinite(price)]
    edges = priced.groupby(group.to_numpy()[priced.index]).quantile(shares).unstack() if tiers > 1 else None
    above = 0 if edges is None else (price[:, None] > edges.reindex(group).to_numpy()).sum(axis=1)
    named = group + " tier " + pd.Series(above + np.zeros(len(group)), index=group.index).astype(int).astype(str)
    return named.where(np.isfinite(price), None)


def title_words(title: pd.Series, count: int) -> list[pd.Series]:
    """The first `count` words of each title, in lower case."""
    words = title.astype(object).str.lower().str.findall(r"\w+")
    return [words.str[place] for place in range(count)]


def hashed(name: str, values: pd.Series, buckets: int) -> IntArray:
    """A code from 1 for each text, the same everywhere; 0 where there is none."""
    there = values.notna().to_numpy()
    codes = np.zeros(len(values), np.int64)
    texts = (f"{name}=" + values[there].astype(str)).to_numpy(object)
    codes[there] = (pd.util.hash_array(texts, categorize=False) % np.uint64(buckets)).astype(np.int64) + 1
    return codes
