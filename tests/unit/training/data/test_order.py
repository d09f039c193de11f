"""Drawing: balance that can be counted, orders that are functions of seed and epoch, partitions that add up."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from manifests.errors import ConfigError
from training.data.order import BlockShuffle, InOrder

# 40 real items, then 100, 70 and 30 of three manipulations: neighbours in the store are of one kind.
METHODS = np.repeat([0, 1, 2, 3], [40, 100, 70, 30])
LABELS = (METHODS > 0).astype(np.int64)


def make(**changes: Any) -> BlockShuffle:
    return BlockShuffle(LABELS, METHODS, **{"seed": 3, "block_size": 8, "buffer_size": 32} | changes)


def items(sampler: BlockShuffle | InOrder) -> list[int]:
    return [draw.item for draw in sampler]


def test_without_balance_an_epoch_is_every_item_once_in_another_order() -> None:
    sampler = make(balance="none")
    first, second = sampler.order(0), sampler.order(1)
    assert sorted(first) == sorted(second) == list(range(240))
    assert first.tolist() != second.tolist()
    assert first.tolist() != list(range(240))


def test_methods_are_balanced_in_every_round() -> None:
    sampler = make(balance="method")
    rounds = METHODS[sampler.order(0)].reshape(-1, 6)  # 3 real, 1 of each manipulation
    assert all(sorted(drawn) == [0, 0, 0, 1, 2, 3] for drawn in rounds)
    assert len(set(map(tuple, rounds))) > 1
    assert len(sampler) == 240


def test_classes_are_balanced() -> None:
    binary, five = make(balance="class"), BlockShuffle(METHODS, balance="class", num_draws=99)
    assert Counter(LABELS[binary.order(2)].tolist()) == {0: 120, 1: 120}
    assert Counter(METHODS[five.order(0)].tolist()) == dict.fromkeys(range(4), 24)  # 24 whole rounds of 4


def test_nothing_is_drawn_twice_before_all_of_its_kind_were_drawn() -> None:
    sampler = make(balance="method")  # an epoch draws 40 of each manipulation, 120 real ones
    drawn = np.concatenate([sampler.order(epoch) for epoch in range(5)])
    for method, count in enumerate((40, 100, 70, 30)):
        stream = drawn[METHODS[drawn] == method]
        for start in range(0, len(stream) - count + 1, count):
            assert len(set(stream[start : start + count].tolist())) == count


def test_neighbours_stay_near_each_other() -> None:
    order = BlockShuffle(np.zeros(10_000), balance="none", block_size=10, buffer_size=100).order(0)
    blocks_in_buffers = [len(set(((part - order.min()) // 10).tolist())) for part in order.reshape(-1, 100)]
    # 100 items of 10 blocks; blocks begin anywhere, so each may touch two tens, and one is cut in two by the end.
    assert max(blocks_in_buffers) <= 21
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.2, "blocks come from everywhere"


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    one, other = make(), make()
    list(one)
    one.set_epoch(5)
    other.set_epoch(5)
    assert list(one) == list(other)
    assert items(make(seed=4)) != items(make(seed=3))
    assert [(draw.epoch, draw.position) for draw in one] == [(5, position) for position in range(240)]


@pytest.mark.parametrize("world_size", [1, 3, 7])
def test_ranks_share_an_epoch_out(world_size: int) -> None:
    whole = items(make())
    ranks = [make(rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [list(rank) for rank in ranks]
    assert {len(part) for part in parts} == {len(ranks[0])} == {240 // world_size}
    drawn = sorted((draw for part in parts for draw in part), key=lambda draw: draw.position)
    assert [draw.item for draw in drawn] == whole[: 240 // world_size * world_size]


def test_drawing_goes_on_where_it_stood() -> None:
    before = make(world_size=2, rank=1)
    before.set_epoch(4)
    everything = list(before)
    before.advance(50)
    state = json.loads(json.dumps(before.state_dict()))
    after = make(world_size=2, rank=1)
    after.load_state_dict(state)
    assert list(after) == everything[50:]
    assert len(after) == 120, "the epoch's length does not change"
    after.set_epoch(4)
    assert list(after) == everything[50:], "the epoch that is under way goes on"
    after.set_epoch(5)
    assert len(list(after)) == 120


@pytest.mark.parametrize("changes", [{"seed": 4}, {"balance": "none"}, {"num_draws": 60}, {"block_size": 9}])
def test_the_state_of_another_order_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="state of the sampler"):
        make(**changes).load_state_dict(make().state_dict())


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        (LABELS, {"balance": "both"}, "balance: got 'both'"),
        (LABELS, {"balance": "method"}, "methods: got none"),
        (np.ones(5), {"balance": "class"}, "real"),
        (np.zeros(5), {"balance": "class"}, "fake"),
        (np.zeros(0), {"balance": "none"}, "got 0"),
        (LABELS, {"balance": "class", "num_draws": 1}, "draws in an epoch: got 1"),
        (LABELS, {"balance": "none", "rank": 2, "world_size": 2}, "rank: got 2"),
        (LABELS, {"balance": "none", "seed": -1}, "seed: got -1"),
    ],
)
def test_nonsense_is_refused(labels: npt.ArrayLike, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BlockShuffle(labels, **changes)


@pytest.mark.parametrize(("num_items", "world_size"), [(10, 1), (10, 3), (2, 4), (0, 2)])
def test_evaluation_sees_everything_once(num_items: int, world_size: int) -> None:
    parts = [InOrder(num_items, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [item for part in parts for item in items(part)] == list(range(num_items))
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
