from collections.abc import Callable

import numpy as np
import pytest
import torch

from shopkeeper.data.batches import Batch
from shopkeeper.data.examples import Examples
from shopkeeper.models.repeats import RepeatTerm, Seen, observe

BatchOf = Callable[..., Batch]
ONE = torch.ones(1, 1)
ONCE = Seen(ONE, ONE, ONE, ONE, torch.zeros(1, 1, dtype=torch.int64), ONE, ONE)


@pytest.mark.parametrize("shop", ["clicks", "orders"])
def test_what_is_observed_at_a_position_ends_there(batch_of: BatchOf, examples: dict[str, Examples], shop: str) -> None:
    own = examples[shop]
    batch = batch_of(shop, own.only(np.flatnonzero(own.k == 3)))
    seen = observe(batch, torch.zeros(batch.seen.shape), 2)

    for b in range(len(batch.event)):
        for t in range(batch.event.shape[1]):
            cells = [int(c) for c in batch.bag_cell]
            upto = [i for i, c in enumerate(cells) if c // batch.event.shape[1] == b and c % batch.event.shape[1] <= t]
            for u, item in enumerate(batch.seen[b].tolist()):
                entries = [i for i in upto if item and int(batch.bag_item[i]) == item]
                assert int(seen.times[b, t, u]) == len(entries)
                if entries:
                    latest = cells[entries[-1]] % batch.event.shape[1]
                    assert int(seen.steps_ago[b, t, u]) == t - latest
                    assert int(seen.last_event[b, t, u]) == int(batch.event[b, latest])


def test_a_purchase_counts_as_bought_from_its_step_on() -> None:
    batch = Batch(
        event=torch.tensor([[1, 3, 2, 3]]),
        context=torch.zeros((1, 4, 0), dtype=torch.int64),
        time=torch.tensor([[0, 10, 40, 90]]),
        length=torch.tensor([4]),
        bag_item=torch.tensor([5, 5, 6]),
        bag_cell=torch.tensor([1, 2, 3]),
        bag_slot=torch.tensor([0, 0, 1]),
        seen=torch.tensor([[5, 6]]),
        last_item=torch.tensor([6]),
        targets=(),
    )
    seen = observe(batch, torch.tensor([[0.5, -0.5]]), purchase_code=2)

    assert seen.bought[0].tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]
    assert seen.times[0].tolist() == [[0, 0], [1, 0], [2, 0], [2, 1]]
    assert seen.seconds_ago[0, :, 0].tolist() == [0, 0, 0, 50]
    assert seen.steps_ago[0, 3].tolist() == [1, 0]
    assert seen.popularity[0, 2].tolist() == [0.5, -0.5]


def test_the_raise_depends_on_what_was_seen_and_starts_at_what_it_is_told() -> None:
    torch.manual_seed(0)
    term = RepeatTerm(dim=3, num_events=4, start=[5.0, 0.0])
    hidden = torch.randn(1, 3)

    once, often = term(hidden, ONCE), term(hidden, ONCE._replace(times=5 * ONE))

    assert once.shape == (1, 1, 2)
    assert not torch.allclose(once, often)
    torch.nn.init.zeros_(term.out.weight)
    assert term(hidden, ONCE).tolist() == [[[5.0, 0.0]]]


def test_what_is_computed_in_places_is_what_is_computed_everywhere() -> None:
    torch.manual_seed(0)
    term = RepeatTerm(dim=3, num_events=4, start=[1.0])
    torch.nn.init.normal_(term.gate.weight)
    shape, hidden = (2, 3, 4), torch.randn(2, 3, 3)
    times, bought, ago, seconds, steps, popularity = torch.rand(6, *shape)
    seen = Seen(times, bought, ago, seconds, torch.zeros(shape, dtype=torch.int64), steps, popularity)
    mask = torch.rand(shape) < 0.5

    expected = torch.where(mask[..., None], term(hidden, seen), 0.0)
    torch.testing.assert_close(term.where(mask, hidden, seen), expected)
