"""What every neural model shares: tokens in, an encoder between, a query per task out; the score of an item is

    score_i = q . e_i + bias_i + [i in the history] * (gate(h) + mlp(counts and recencies of i) + r_i)

with a query q = W_task h per task and unit item vectors e. A token is a step: the mean of its items' vectors plus
embeddings of event, context, hour, weekday, time since the step before, and position; token 0 is the visitor's context
alone. Encoders are causal, so padding on the right and whatever comes later change nothing.
Legend: B histories, T tokens, D embed_dim, H tasks, U distinct items of a history, V items, R items named in a batch.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.data.batches import Batch, TaskTargets, Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.models.contract import FitData, SessionModel
from shopkeeper.models.criteria import Contest, Criterion
from shopkeeper.models.heads import OutcomeHeads
from shopkeeper.models.items import Items, ItemTable
from shopkeeper.models.losses import Sample
from shopkeeper.models.repeats import RepeatTerm, Seen, observe

GAP_BUCKETS = 31
"""Time since the step before, in buckets whose borders are powers of two seconds; one more for token 0."""


class NeuralModel(SessionModel):
    """Everything but the encoder, which a subclass gives as `mix`.

    Args:
        embed_dim: D.
        likeness: per task, how much an item that is like the last step's scores before training: the log odds of one
            whose vector is the same. Queries start as that step's vector, times this; before any step, at zero.
        repeat_start: per task, what an item of the history is worth before training, in log odds.
        half_life_days: how fast an event loses weight in the popularity that scores start from.
        context_dropout: share of training histories whose entry context and time are blanked.
        purchase_code: event code of a purchase, -1 where the log has none.
        outcomes: what is predicted beside the rankings.
        heads: values of the outcomes' heads (`OutcomeHeads`); asked for where there are outcomes.
        content: settings of the items' content tower (see `content.ContentSettings`); None: ids alone.
        tie: whether steps are read by the vectors that queries are multiplied with, or by some of their own.
        scale: per task, the length of a query after a step, so that scores are cosines times it; None: free.
    """

    kind = "encoder"
    trained_by_gradient = True
    scores_are_logits = True

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        embed_dim: int,
        dropout: float,
        likeness: dict[str, float],
        repeat_start: dict[str, float],
        half_life_days: float,
        context_dropout: float,
        purchase_code: int,
        outcomes: Sequence[Outcome] = (),
        heads: Mapping[str, Any] | None = None,
        content: Mapping[str, Any] | None = None,
        tie: bool = True,
        scale: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len, outcomes=outcomes)
        if embed_dim < 1:
            raise ValueError(f"embed_dim={embed_dim} must be at least 1")
        self.dim, self.context_dropout, self.purchase_code = embed_dim, context_dropout, purchase_code
        self.items = ItemTable(
            num_items=vocabulary.num_items,
            dim=embed_dim,
            num_tasks=len(tasks),
            half_life_days=half_life_days,
            content=content,
            tie=tie,
        )
        self.scale = [(scale or {}).get(task) for task in tasks]
        self.event = nn.Embedding(vocabulary.num_events + 1, embed_dim)
        self.context = nn.ModuleList(nn.Embedding(size + 1, embed_dim) for size in vocabulary.context)
        self.hour, self.weekday = nn.Embedding(25, embed_dim), nn.Embedding(8, embed_dim)
        self.gap = nn.Embedding(GAP_BUCKETS + 2, embed_dim)
        self.position = nn.Embedding(max_len + 1, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, len(tasks) * embed_dim)
        self.opening = nn.Linear(embed_dim, len(tasks) * embed_dim)
        self.drop = nn.Dropout(dropout)
        self.repeat = RepeatTerm(
            dim=embed_dim, num_events=vocabulary.num_events, start=[float(repeat_start[task]) for task in tasks]
        )
        self.outcome_heads = (
            OutcomeHeads(outcomes, dim=embed_dim, num_events=vocabulary.num_events, max_len=max_len, **(heads or {}))
            if outcomes
            else None
        )
        self.register_buffer("gap_borders", 2 ** torch.arange(GAP_BUCKETS, dtype=torch.int64))
        self.gap_borders: Tensor
        self.kept: tuple[object, Items] | None = None  # see `catalogue`
        self.init_weights([float(likeness[task]) for task in tasks])

    def init_weights(self, likeness: list[float]) -> None:
        """Small normal embeddings; queries start as the last step's vector."""
        for table in (self.event, *self.context, self.hour, self.weekday, self.gap, self.position):
            nn.init.normal_(table.weight, std=0.02)
        # a normalised hidden state has length sqrt(D)
        start = [weight * torch.eye(self.dim) / math.sqrt(self.dim) for weight in likeness]
        self.head.weight.detach().copy_(torch.cat(start))
        nn.init.zeros_(self.head.bias)
        nn.init.zeros_(self.opening.weight)  # who has done nothing is like nothing: popularity answers at first
        nn.init.zeros_(self.opening.bias)

    def fit(self, data: FitData) -> None:
        self.items.fit(data, self.tasks)
        if self.outcome_heads is not None:
            self.outcome_heads.fit(data)

    def prior_scores(self) -> Tensor:
        return self.items.popularity[1:].T

    # --- encoder -------------------------------------------------------------------------------------------------

    @abstractmethod
    def mix(self, tokens: Tensor, time: Tensor) -> Tensor:
        """State after each token (B, T, D), from tokens (B, T, D) and their times (B, T), -1 unknown; causal."""

    def encode(self, vectors: Tensor, event: Tensor, context: Tensor, time: Tensor) -> Tensor:
        """Normalised state after each token (B, T, D) from pooled vectors (B, T, D), codes and times."""
        tokens = vectors * math.sqrt(self.dim) + self.event(event) + self.moment(time)
        for column, embedding in enumerate(self.context):
            tokens = tokens + embedding(context[:, :, column])
        tokens = tokens + self.position(torch.arange(vectors.shape[1], device=vectors.device))
        hidden: Tensor = self.norm(self.mix(self.drop(tokens), time))
        return hidden

    def pool(self, batch: Batch, items: Items) -> Tensor:
        """Mean vector of each step's items (B, T, D); zero where a step has none."""
        count, width = batch.event.shape
        chosen = items.read[items.rows(batch.bag_item)]
        pooled = chosen.new_zeros(count * width, self.dim).index_add_(0, batch.bag_cell, chosen)
        sizes = chosen.new_zeros(count * width).index_add_(0, batch.bag_cell, chosen.new_ones(len(chosen)))
        return (pooled / sizes.clamp(min=1.0)[:, None]).view(count, width, -1)

    def moment(self, time: Tensor) -> Tensor:
        """Embedding of hour, weekday and time since the step before (B, T, D); unknown where time is -1."""
        known = time >= 0
        hour = torch.where(known, time // 3600 % 24, 24)
        weekday = torch.where(known, (time // 86400 + 3) % 7, 7)  # 1970-01-01 was a Thursday; Monday is 0
        before = torch.cat([time[:, :1], time[:, :-1]], dim=1)
        elapsed = torch.where(known & (before >= 0), time - before, 0)
        gap = (elapsed[:, :, None] >= self.gap_borders).sum(dim=-1)
        first = torch.arange(time.shape[1], device=time.device) == 0
        gap = torch.where(first, GAP_BUCKETS + 1, gap)
        moment: Tensor = self.hour(hour) + self.weekday(weekday) + self.gap(gap)
        return moment

    def queries(self, hidden: Tensor, first: Tensor) -> Tensor:
        """A query per task (..., H, D), to be multiplied with unit item vectors.

        `first` (..., 1) is true at context tokens, which come before any step and have a head of their own.
        """
        flat = torch.where(first, self.opening(hidden), self.head(hidden))
        queries: Tensor = flat.view(*hidden.shape[:-1], len(self.tasks), self.dim)
        if not any(self.scale):
            return queries
        each = zip(queries.unbind(-2), self.scale, strict=True)
        scaled = torch.stack([q if size is None else F.normalize(q, dim=-1) * size for q, size in each], dim=-2)
        return torch.where(first[..., None], queries, scaled)

    # --- training ------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, criteria: list[Criterion]) -> list[Tensor]:
        """Loss of each task by its criterion, then cross-entropy of each outcome.

        Averaged over all positions, also those without a target of the task: a rare target does not shout.
        """
        samples = [criterion.draw() for criterion in criteria]
        items = self.named_items(batch, samples)
        vectors, (context, time) = self.pool(batch, items), self.drop_context(batch)
        hidden = self.encode(vectors, batch.event, context, time)
        query = self.queries(hidden, (torch.arange(hidden.shape[1], device=hidden.device) == 0)[:, None])
        slots = items.rows(batch.seen)
        seen = observe(batch, items.popularity[slots, 0], self.purchase_code)
        mask = seen.times > 0
        bonus = self.repeat.where(mask, hidden, seen) + items.repeat[slots][:, None]
        losses = []
        for h, (targets, criterion, sample) in enumerate(zip(batch.targets, criteria, samples, strict=True)):
            near = torch.bmm(query[:, :, h], items.vector[slots].transpose(1, 2)) + items.bias[slots, h][:, None]
            if len(targets.cell):
                own = contest(targets, query[:, :, h], near, bonus[..., h], mask, items, slots, h, batch)
                losses.append(criterion.loss(own, sample and Sample(items.rows(sample.item), sample.log_expected)))
            else:
                losses.append(query.sum() * 0.0)
        if self.outcome_heads is not None:
            logits = self.outcome_heads(hidden, vectors, batch.event, time)
            losses += self.outcome_heads.losses(logits, batch.labels, batch.length)
        return losses

    def named_items(self, batch: Batch, samples: list[Sample | None]) -> Items:
        """What the batch and its samples name; the whole catalogue where a task is compared with all of it."""
        drawn = [sample.item for sample in samples if sample is not None]
        if len(drawn) < len(samples):
            return self.items.all()
        return self.items.only(torch.cat([batch.bag_item, *(targets.item for targets in batch.targets), *drawn]))

    def drop_context(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Context and time with the entry's blanked in some histories, so that a missing one costs little."""
        share = self.context_dropout if self.training else 0.0
        blank = torch.rand(len(batch.event), 1, device=batch.event.device) < share
        blank = blank & (torch.arange(batch.event.shape[1], device=blank.device) == 0)
        return batch.context.masked_fill(blank[..., None], 0), batch.time.masked_fill(blank, -1)

    # --- scoring -------------------------------------------------------------------------------------------------

    def score(self, batch: Batch) -> Tensor:
        items = self.catalogue()
        seen = observe(batch, items.popularity[batch.seen, 0], self.purchase_code)
        last = (batch.length - 1)[:, None, None]
        at_end = Seen(*(x.gather(1, last.expand(-1, 1, x.shape[2]))[:, 0] for x in seen))
        query, bonus, _ = self.answer(
            self.pool(batch, items), batch.event, batch.context, batch.time, batch.length, at_end
        )
        bonus = bonus + items.repeat[batch.seen].transpose(1, 2)
        scores = query @ items.vector[1:].T + items.bias[1:].T
        return add_to_seen(scores, batch.seen, torch.where(at_end.times[:, None] > 0, bonus, 0.0))

    def raw_outcomes(self, batch: Batch) -> list[Tensor]:
        if self.outcome_heads is None:
            return []
        vectors = self.pool(batch, self.catalogue())
        hidden = self.encode(vectors, batch.event, batch.context, batch.time)
        logits = self.outcome_logits(hidden, vectors, batch.event, batch.time, batch.length)
        return self.outcome_heads.split(logits)

    def outcome_features(self, batch: Batch) -> Tensor:
        """What the last layer of the outcomes' heads reads after the last step of each history (B, F)."""
        assert self.outcome_heads is not None
        vectors = self.pool(batch, self.catalogue())
        hidden = self.encode(vectors, batch.event, batch.context, batch.time)
        return at_last(self.outcome_heads.features(hidden, vectors, batch.event, batch.time), batch.length)

    def outcome_priors(self) -> list[Tensor]:
        return [] if self.outcome_heads is None else self.outcome_heads.split(self.outcome_heads.prior)

    def catalogue(self) -> Items:
        """The whole catalogue, kept between calls for as long as no weight changes."""
        state = tuple((p.data_ptr(), p._version) for p in self.items.parameters())
        if torch.is_grad_enabled() or self.kept is None or self.kept[0] != state:
            self.kept = (state, self.items.all())
        return self.kept[1]

    def answer(
        self, vectors: Tensor, event: Tensor, context: Tensor, time: Tensor, length: Tensor, seen: Seen
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, D), bonuses of seen items (B, H, U) and raw logits of all outcomes (B, C), C may be 0, after
        the last token: what the exported graph is."""
        states = self.encode(vectors, event, context, time)
        hidden = at_last(states, length)
        logits = self.outcome_logits(states, vectors, event, time, length)
        return self.queries(hidden, (length == 1)[:, None]), self.repeat(hidden, seen).transpose(1, 2), logits

    def outcome_logits(self, hidden: Tensor, vectors: Tensor, event: Tensor, time: Tensor, length: Tensor) -> Tensor:
        """Raw logits (B, C) after the last token, from what is known after each."""
        if self.outcome_heads is None:
            return hidden.new_zeros(hidden.shape[0], 0)  # never len(): the exporter would take it for a constant
        return at_last(self.outcome_heads(hidden, vectors, event, time), length)


def at_last(values: Tensor, length: Tensor) -> Tensor:
    """Of values after each token (B, T, N) those after the last (B, N)."""
    last = (length - 1)[:, None, None].expand(-1, 1, values.shape[2])
    return values.gather(1, last)[:, 0]


def contest(
    targets: TaskTargets,
    query: Tensor,
    near: Tensor,
    bonus: Tensor,
    mask: Tensor,
    items: Items,
    held: Tensor,
    h: int,
    batch: Batch,
) -> Contest:
    """Gather what is compared at the positions that have a target of task h.

    near, bonus and mask are (B, T, U); `held` (B, U) are the rows of the history's items.
    """
    cells, owner = torch.unique(targets.cell, return_inverse=True)
    bonus, mask = bonus.flatten(0, 1)[cells], mask.flatten(0, 1)[cells]
    slot = targets.slot.clamp(min=0)
    raised = (targets.slot >= 0) & mask[owner, slot]
    return Contest(
        query=query.flatten(0, 1)[cells],
        vector=items.vector,
        bias=items.bias[:, h],
        seen=near.flatten(0, 1)[cells],
        bonus=bonus,
        mask=mask,
        held=held[torch.div(cells, batch.event.shape[1], rounding_mode="floor")],
        target=items.rows(targets.item),
        slot=targets.slot,
        owner=owner,
        raised=torch.where(raised, bonus[owner, slot], 0.0),
        weight=targets.weight,
        positions=int(batch.length.sum()),
    )


def add_to_seen(scores: Tensor, seen: Tensor, bonus: Tensor) -> Tensor:
    """Add bonus (B, H, U) to the scores (B, H, V) of the seen items (B, U); index 0 is nobody."""
    padded = F.pad(scores, (1, 0))
    index = seen[:, None].expand(-1, scores.shape[1], -1)
    return padded.scatter_add(2, index, bonus)[:, :, 1:]
