"""SASRec (Kang and McAuley 2018, arXiv:1808.09781) for baskets and events, with pre-norm and a repeat term.

A token is a step: the mean of its items' vectors plus embeddings of event, context, hour, weekday, time since the
step before, and position; token 0 is the visitor's context alone. Attention is causal, so padding on the right and
whatever comes later change nothing. The score of an item is

    score_i = q . e_i + bias_i + [i in the history] * (gate(h) + mlp(counts and recencies of i) + r_i)

with a query q = W_task h per task: explore and repeat in one softmax (compare RepeatNet, Ren et al. 2019,
arXiv:1812.02646, which mixes two). Unit-length item vectors follow NISER (Gupta et al. 2019,
arXiv:1909.04276). Legend: B histories, T tokens, D embed_dim, H tasks, U distinct items, V items.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.data.batches import Batch, TaskTargets, Vocabulary
from shopkeeper.models.contract import FitData, SessionModel
from shopkeeper.models.cooccurrence import item_vectors
from shopkeeper.models.losses import Sample, draw_sample, log_partition, softmax_loss, with_bonus

GAP_BUCKETS = 31
"""Time since the step before, in buckets whose borders are powers of two seconds; one more for token 0."""


NOISE = 0.1
"""Random part of an item's vector beside what co-occurrence says: items that occur together alike stay two."""


class Seen(NamedTuple):
    """What a history says of each of its distinct items at a position, (..., U) each."""

    times: Tensor  # float, entries so far
    bought: Tensor  # float, purchases among them
    steps_ago: Tensor  # float, steps since the latest
    seconds_ago: Tensor  # float
    last_event: Tensor  # int64, event code of the latest
    steps: Tensor  # float, steps so far
    popularity: Tensor  # float, log popularity of the item, by the first task


class Block(nn.Module):
    """Pre-norm transformer block with causal attention."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm_attention(x)))
        out: Tensor = x + self.drop(self.mlp(self.norm_mlp(x)))
        return out

    def attention(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)  # (B, heads, T, D/heads)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class SASRec(SessionModel):
    """See the module's docstring.

    Args:
        embed_dim: D, divisible by num_heads.
        likeness: per task, how much an item that is like the last step's scores before training: the log odds of one
            whose vector is the same. Queries start as that step's vector, times this; before any step, at zero.
        repeat_start: per task, what an item of the history is worth before training, in log odds.
        half_life_days: how fast an event loses weight in the popularity that scores start from.
        context_dropout: share of training histories whose entry context and time are blanked.
        purchase_code: event code of a purchase, -1 where the log has none.
    """

    family = "sasrec"
    trained_by_gradient = True

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        likeness: dict[str, float],
        repeat_start: dict[str, float],
        half_life_days: float,
        context_dropout: float,
        purchase_code: int,
    ) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} must be a multiple of num_heads={num_heads}")
        self.context_dropout, self.purchase_code = context_dropout, purchase_code
        self.likeness = [float(likeness[task]) for task in tasks]
        self.repeat_start = [float(repeat_start[task]) for task in tasks]
        self.half_life_days = half_life_days
        self.item = nn.Embedding(vocabulary.num_items + 1, embed_dim, padding_idx=0)
        self.event = nn.Embedding(vocabulary.num_events + 1, embed_dim)
        self.context = nn.ModuleList(nn.Embedding(size + 1, embed_dim) for size in vocabulary.context)
        self.hour, self.weekday = nn.Embedding(25, embed_dim), nn.Embedding(8, embed_dim)
        self.gap = nn.Embedding(GAP_BUCKETS + 2, embed_dim)
        self.position = nn.Embedding(max_len + 1, embed_dim)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, len(tasks) * embed_dim)
        self.opening = nn.Linear(embed_dim, len(tasks) * embed_dim)
        self.item_bias = nn.Parameter(torch.zeros(len(tasks), vocabulary.num_items))
        self.popularity_weight = nn.Parameter(torch.ones(len(tasks), 1))
        self.gate = nn.Linear(embed_dim, len(tasks))
        self.repeat_event = nn.Embedding(vocabulary.num_events + 1, 8)
        self.repeat_in, self.repeat_out = nn.Linear(15, 32), nn.Linear(32, len(tasks))
        self.repeat_item = nn.Embedding(vocabulary.num_items + 1, len(tasks), padding_idx=0)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("gap_borders", 2 ** torch.arange(GAP_BUCKETS, dtype=torch.int64))
        self.register_buffer("noise", torch.ones(len(tasks), vocabulary.num_items))
        self.register_buffer("popularity", torch.zeros(len(tasks), vocabulary.num_items))
        self.gap_borders: Tensor
        self.noise: Tensor
        self.popularity: Tensor
        self.init_weights()

    def init_weights(self) -> None:
        """Small normal embeddings; queries start as the last step's vector, repeats with their worth."""
        dim = self.item.embedding_dim
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if module.padding_idx is not None:
                    nn.init.zeros_(module.weight[module.padding_idx : module.padding_idx + 1].detach())
        nn.init.normal_(self.item.weight[1:].detach(), std=dim**-0.5)
        nn.init.zeros_(self.repeat_item.weight.detach())
        # a normalised hidden state has length sqrt(D)
        start = [weight * torch.eye(dim) / math.sqrt(dim) for weight in self.likeness]
        self.head.weight.detach().copy_(torch.cat(start))
        nn.init.zeros_(self.head.bias)
        nn.init.zeros_(self.opening.weight)  # who has done nothing is like nothing: popularity answers at first
        nn.init.zeros_(self.opening.bias)
        self.repeat_out.bias.detach().copy_(torch.tensor(self.repeat_start))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def fit(self, data: FitData) -> None:
        """Start from what counting knows: recent log popularity, and vectors of items bought or looked at together.

        Training's negatives are drawn by popularity ** 0.75.
        """
        vectors = torch.from_numpy(item_vectors(data, self.item.embedding_dim))
        own = self.item.weight.detach()[1:]
        seen = (vectors != 0).any(dim=1, keepdim=True)
        own.copy_(torch.where(seen, vectors + NOISE * own, own))
        for h, task in enumerate(self.tasks):
            recent = torch.from_numpy(data.target_counts(task, half_life_days=self.half_life_days))
            self.popularity[h] = torch.log((recent + 0.1) / (recent + 0.1).mean())
            self.noise[h] = (torch.from_numpy(data.target_counts(task)) + 0.1) ** 0.75

    def bias(self) -> Tensor:
        """What an item scores before anything is known of the visitor (H, V)."""
        return self.item_bias + self.popularity_weight * self.popularity

    def prior_scores(self) -> Tensor:
        return self.popularity

    # --- encoder -------------------------------------------------------------------------------------------------

    def table(self) -> Tensor:
        """Unit-length item vectors, with a zero row for index 0 (V + 1, D)."""
        return F.normalize(self.item.weight, dim=-1)

    def pool(self, batch: Batch, table: Tensor) -> Tensor:
        """Mean vector of each step's items (B, T, D); zero where a step has none."""
        count, width = batch.event.shape
        pooled = torch.zeros(count * width, table.shape[1]).index_add_(0, batch.bag_cell, table[batch.bag_item])
        sizes = torch.zeros(count * width).index_add_(0, batch.bag_cell, torch.ones(len(batch.bag_cell)))
        return (pooled / sizes.clamp(min=1.0)[:, None]).view(count, width, -1)

    def encode(self, vectors: Tensor, event: Tensor, context: Tensor, time: Tensor) -> Tensor:
        """Hidden state after each token (B, T, D) from pooled vectors (B, T, D), codes and times."""
        tokens = vectors * math.sqrt(vectors.shape[-1]) + self.event(event) + self.moment(time)
        for column, embedding in enumerate(self.context):
            tokens = tokens + embedding(context[:, :, column])
        tokens = tokens + self.position(torch.arange(vectors.shape[1]))
        hidden = self.drop(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        normed: Tensor = self.norm(hidden)
        return normed

    def moment(self, time: Tensor) -> Tensor:
        """Embedding of hour, weekday and time since the step before (B, T, D); unknown where time is -1."""
        known = time >= 0
        hour = torch.where(known, time // 3600 % 24, 24)
        weekday = torch.where(known, (time // 86400 + 3) % 7, 7)  # 1970-01-01 was a Thursday; Monday is 0
        before = torch.cat([time[:, :1], time[:, :-1]], dim=1)
        elapsed = torch.where(known & (before >= 0), time - before, 0)
        gap = (elapsed[:, :, None] >= self.gap_borders).sum(dim=-1)
        first = torch.arange(time.shape[1]) == 0
        gap = torch.where(first, GAP_BUCKETS + 1, gap)
        moment: Tensor = self.hour(hour) + self.weekday(weekday) + self.gap(gap)
        return moment

    def queries(self, hidden: Tensor, first: Tensor) -> Tensor:
        """A query per task (..., H, D), to be multiplied with unit item vectors.

        `first` (..., 1) is true at context tokens, which come before any step and have a head of their own.
        """
        flat = torch.where(first, self.opening(hidden), self.head(hidden))
        queries: Tensor = flat.view(*hidden.shape[:-1], len(self.tasks), hidden.shape[-1])
        return queries

    def bonus(self, gate: Tensor, seen: Seen) -> Tensor:
        """Raise of each seen item's score per task (..., H), without the item's own term `repeat_item`."""
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
        features = torch.cat([numbers, self.repeat_event(seen.last_event)], dim=-1)
        raised: Tensor = self.repeat_out(F.relu(self.repeat_in(features))) + gate
        return raised

    def observe(self, batch: Batch) -> Seen:
        """Counts and recencies of each distinct item after every token (B, T, U)."""
        (count, width), slots = batch.event.shape, batch.seen.shape[1]
        cell = batch.bag_cell * slots + batch.bag_slot
        ones = torch.ones(len(cell))
        bought = (batch.event.view(-1)[batch.bag_cell] == self.purchase_code).float()
        shape = (count, width, slots)
        entries = torch.zeros(count * width * slots).index_add_(0, cell, ones).view(shape)
        purchases = torch.zeros(count * width * slots).index_add_(0, cell, bought).view(shape)
        position = torch.arange(width)[None, :, None]
        last = torch.where(entries > 0, position, 0).cummax(dim=1).values  # (B, T, U), 0 = not yet
        at = batch.time[:, :, None].expand(shape).gather(1, last)
        return Seen(
            times=entries.cumsum(dim=1),
            bought=purchases.cumsum(dim=1),
            steps_ago=(position - last).float(),
            seconds_ago=(batch.time[:, :, None] - at).clamp(min=0).float(),
            last_event=batch.event[:, :, None].expand(shape).gather(1, last),
            steps=position.expand(shape).float(),
            popularity=F.pad(self.popularity[0], (1, 0))[batch.seen][:, None].expand(shape),
        )

    # --- training ------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, *, num_negatives: int) -> list[Tensor]:
        """Softmax loss of each task over the catalogue, on a shared sample where it has more than num_negatives.

        Averaged over all positions, also those without a target of the task: a rare target does not shout.
        """
        positions = int(batch.length.sum())
        table = self.table()
        hidden = self.encode(self.pool(batch, table), batch.event, *self.drop_context(batch))
        query = self.queries(hidden, (torch.arange(hidden.shape[1]) == 0)[:, None])
        seen = self.observe(batch)
        mask = seen.times > 0
        bonus = self.bonus_where(mask, hidden, seen) + self.repeat_item(batch.seen)[:, None]
        return [
            self.task_loss(h, targets, query[:, :, h], bonus[..., h], mask, batch.seen, table, num_negatives, positions)
            for h, targets in enumerate(batch.targets)
        ]

    def bonus_where(self, mask: Tensor, hidden: Tensor, seen: Seen) -> Tensor:
        """The bonus (B, T, U, H) where `mask` (B, T, U) holds, zero elsewhere and not computed there."""
        b, t, u = mask.nonzero(as_tuple=True)
        values = self.bonus(self.gate(hidden)[b, t], Seen(*(x[b, t, u] for x in seen)))
        return values.new_zeros(*mask.shape, values.shape[-1]).index_put((b, t, u), values)

    def drop_context(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Context and time with the entry's blanked in some histories, so that a missing one costs little."""
        blank = torch.rand(len(batch.event), 1) < (self.context_dropout if self.training else 0.0)
        first = torch.arange(batch.event.shape[1]) == 0
        blank = blank & first
        return batch.context.masked_fill(blank[..., None], 0), batch.time.masked_fill(blank, -1)

    def task_loss(
        self,
        h: int,
        targets: TaskTargets,
        query: Tensor,
        bonus: Tensor,
        mask: Tensor,
        seen: Tensor,
        table: Tensor,
        num_negatives: int,
        positions: int,
    ) -> Tensor:
        cells, index = torch.unique(targets.cell, return_inverse=True)  # positions that have a target
        if not len(cells):
            return query.sum() * 0.0
        catalogue, bias = table[1:], self.bias()[h]
        exact = catalogue.shape[0] <= num_negatives
        sample: Sample | None = None if exact else draw_sample(self.noise[h], num_negatives)
        q, b, m = query.flatten(0, 1)[cells], bonus.flatten(0, 1)[cells], mask.flatten(0, 1)[cells]
        seen_bias = F.pad(bias, (1, 0))[seen]
        scores = torch.bmm(query, table[seen].transpose(1, 2)) + seen_bias[:, None]  # (B, T, U)
        log_sum = log_partition(q, catalogue, bias, sample)
        log_sum = with_bonus(log_sum, scores.flatten(0, 1)[cells], b, m, exact=exact)
        slot = targets.slot.clamp(min=0)[:, None]
        raised = (targets.slot >= 0) & m[index].gather(1, slot)[:, 0]
        target_bonus = torch.where(raised, b[index].gather(1, slot)[:, 0], 0.0)
        target_scores = (q[index] * table[targets.item]).sum(-1) + bias[targets.item - 1] + target_bonus
        return softmax_loss(target_scores, log_sum[index], targets.weight, positions=positions, exact=exact)

    # --- scoring -------------------------------------------------------------------------------------------------

    def score(self, batch: Batch) -> Tensor:
        table = self.table()
        vectors = self.pool(batch, table)
        observed = self.observe(batch)
        last = (batch.length - 1)[:, None, None]
        at_end = Seen(*(x.gather(1, last.expand(-1, 1, x.shape[2]))[:, 0] for x in observed))
        query, bonus = self.answer(vectors, batch.event, batch.context, batch.time, batch.length, at_end)
        bonus = bonus + self.repeat_item(batch.seen).transpose(1, 2)
        scores = query @ table[1:].T + self.bias()
        return add_to_seen(scores, batch.seen, torch.where(at_end.times[:, None] > 0, bonus, 0.0))

    def answer(
        self, vectors: Tensor, event: Tensor, context: Tensor, time: Tensor, length: Tensor, seen: Seen
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, H, D) and bonuses of seen items (B, H, U) after the last token: what the exported graph is."""
        hidden = self.encode(vectors, event, context, time)
        last = (length - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
        hidden = hidden.gather(1, last)[:, 0]
        bonus = self.bonus(self.gate(hidden)[:, None], seen).transpose(1, 2)
        return self.queries(hidden, (length == 1)[:, None]), bonus


def add_to_seen(scores: Tensor, seen: Tensor, bonus: Tensor) -> Tensor:
    """Add bonus (B, H, U) to the scores (B, H, V) of the seen items (B, U); index 0 is nobody."""
    padded = F.pad(scores, (1, 0))
    index = seen[:, None].expand(-1, scores.shape[1], -1)
    return padded.scatter_add(2, index, bonus)[:, :, 1:]
