"""Samplers of items: shuffled with locality, balanced, resumable, distributed over processes.

    sampler = BlockShuffle(dataset.labels, dataset.methods, seed=7, balance="method")
    sampler.set_epoch(3)
    for item, epoch, position in sampler: ...

The order is a function of (seed, epoch) alone; workers and ranks each take a part of it. Each draw holds its epoch and
its position in it, which seed the augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from manifests.errors import ConfigError

Balance = Literal["none", "class", "method"]
BALANCES: tuple[Balance, ...] = get_args(Balance)

# Consecutive items that are read together: about one video of 20 to 32 frames, whose records are adjacent.
BLOCK_SIZE = 32  # items
# Items that are mixed with each other: about 256 videos, so that a batch rarely holds one twice; 400 MB of a store of
# 320-pixel crops, which fit into the page cache.
BUFFER_SIZE = 8192  # items

_STREAMS, _ROUNDS = 0, 1  # purpose of a generator, part of its seed: generators must be independent

SamplerState = dict[str, int | str]


class Draw(NamedTuple):
    """One item, drawn at one position of an epoch."""

    item: int
    """Number of the item in the dataset, 0-based."""

    epoch: int
    """Epoch, 0-based."""

    position: int
    """Position in the epoch over all ranks, 0-based."""


class BlockShuffle(Sampler[Draw]):
    """A sampler that draws items at random from a few neighbourhoods of the store at a time, balanced on request.

    Each group of items (all; each class; reals and each manipulation) is an endless stream of passes over its items.
    A pass shuffles blocks of neighbours, then the items within buffers of several blocks. An epoch takes the next items
    of each stream, and the next epoch continues there: no item is drawn twice before each item of its group was drawn
    once. Balance is exact in every round of the shortest length that allows it (`method` with 4 manipulations: 8 draws,
    4 of them real), and so in an epoch.

    Args:
        labels: (N,) integers, class of each item, 0 real.
        methods: (N,) integers, manipulation of each item, 0 for real; needed to balance methods.
        seed: seed of all random decisions, 0 or more.
        balance: `none`; `class`, equal numbers of each class; `method`, as many real as fake items, and equal numbers
            of each manipulation among the fakes.
        num_draws: draws in an epoch, over all ranks; rounded down to whole rounds. N if None.
        block_size: adjacent items that stay together until the buffer is shuffled.
        buffer_size: items that are mixed with each other.
        rank: number of this process among those of the run.
        world_size: number of processes; the remainder of an epoch that does not divide evenly is dropped.

    Raises:
        ConfigError: there is nothing to draw, a group is empty, or a number is out of range.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        methods: npt.ArrayLike | None = None,
        *,
        seed: int = 0,
        balance: Balance = "method",
        num_draws: int | None = None,
        block_size: int = BLOCK_SIZE,
        buffer_size: int = BUFFER_SIZE,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for name, value, least in (("seed", seed, 0), ("block_size", block_size, 1), ("buffer_size", buffer_size, 1)):
            if value < least:
                raise ConfigError(f"{name}: got {value}, expected {least} or more")
        _check_rank(rank, world_size)
        classes = np.asarray(labels)
        self._groups, self._round = _groups(classes, None if methods is None else np.asarray(methods), balance)
        wanted = len(classes) if num_draws is None else num_draws
        num_rounds = wanted // len(self._round)
        self._num_draws = num_rounds * len(self._round)  # per epoch, over all ranks
        if self._num_draws < world_size:
            raise ConfigError(
                f"draws in an epoch: got {wanted}, expected at least {max(len(self._round), world_size)}, "
                "one round for the balance and one item for each process; set num_draws"
            )
        self._block_size, self._buffer_size = block_size, buffer_size
        self._rank, self._world_size = rank, world_size
        self._identity: SamplerState = {
            "seed": seed,
            "balance": balance,
            "num_items": len(classes),
            "num_draws": self._num_draws,
        }
        self._identity |= {"block_size": block_size, "buffer_size": buffer_size}
        self._seed = seed
        self.epoch = 0
        self.position = 0  # consumed draws of this epoch, over all ranks

    def __len__(self) -> int:
        """Return the number of draws of this rank in a whole epoch."""
        return self._num_draws // self._world_size

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of this rank that are left of the epoch."""
        epoch = self.epoch
        order = self.order(epoch)
        end = len(self) * self._world_size
        for position in range(self.position + self._rank, end, self._world_size):
            yield Draw(int(order[position]), epoch, position)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the (num_draws,) item numbers of an epoch, over all ranks."""
        num_rounds = self._num_draws // len(self._round)
        rng = np.random.default_rng((self._seed, _ROUNDS, epoch))
        groups = rng.permuted(np.tile(self._round, (num_rounds, 1)), axis=1).ravel()
        order = np.empty(self._num_draws, dtype=np.int64)
        for group in range(len(self._groups)):
            places = np.flatnonzero(groups == group)
            order[places] = self._stream(group, epoch * len(places), len(places))
        return order

    @property
    def num_left(self) -> int:
        """Draws of this rank that are left of the epoch."""
        return len(self) - self.position // self._world_size

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; for the current epoch, the position stays."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def advance(self, num_draws: int) -> None:
        """Count draws of this rank as consumed: those that training received, not those that a worker prefetched."""
        self.position += num_draws * self._world_size

    def state_dict(self) -> SamplerState:
        """Return the position, and the settings that identify the order."""
        return self._identity | {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: SamplerState) -> None:
        """Continue at the position of another sampler of the same order.

        Raises:
            ConfigError: the state belongs to another order.
        """
        found = {name: state.get(name) for name in self._identity}
        if found != self._identity:
            raise ConfigError(
                f"state of the sampler: got {found}, expected {self._identity}; "
                "resume with the stores and settings of the interrupted run, or start another run"
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _stream(self, group: int, start: int, count: int) -> npt.NDArray[np.int64]:
        """Return the (count,) item numbers of a group's endless stream from draw `start` on."""
        members = self._groups[group]
        first_pass, skipped = divmod(start, len(members))
        num_passes = -(-(skipped + count) // len(members))
        passes = [self._shuffled(members, (group, first_pass + number)) for number in range(num_passes)]
        return np.concatenate([members[:0], *passes])[skipped : skipped + count]

    def _shuffled(self, members: npt.NDArray[np.int64], which: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Return all members once: blocks in random order, then items shuffled within each buffer."""
        rng = np.random.default_rng((self._seed, _STREAMS, *which))
        # Blocks start at a random item, so that their boundaries differ from pass to pass.
        members = np.roll(members, int(rng.integers(len(members))))
        blocks = [members[start : start + self._block_size] for start in range(0, len(members), self._block_size)]
        order = np.concatenate([blocks[number] for number in rng.permutation(len(blocks))])
        for start in range(0, len(order), self._buffer_size):
            rng.shuffle(order[start : start + self._buffer_size])
        return order


class InOrder(Sampler[Draw]):
    """A sampler of every item once, in the order of the dataset; each process gets a contiguous part, without padding.

    Parts differ by one item at most, and may be empty: no item is drawn twice, so that an evaluation over several
    processes gives the result of one process.

    Args:
        num_items: N.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ConfigError: the rank is not below the world size.
    """

    def __init__(self, num_items: int, *, rank: int = 0, world_size: int = 1) -> None:
        _check_rank(rank, world_size)
        self._part = range(num_items * rank // world_size, num_items * (rank + 1) // world_size)

    def __len__(self) -> int:
        """Return the number of items of this rank."""
        return len(self._part)

    def __iter__(self) -> Iterator[Draw]:
        """Yield the items of this rank."""
        return (Draw(item, 0, item) for item in self._part)


def _groups(
    labels: npt.NDArray[np.integer], methods: npt.NDArray[np.integer] | None, balance: Balance
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """Return the item numbers of each group, and the group of each draw of a round.

    Raises:
        ConfigError: the balance is unknown, there are no items or one class only, or methods are missing.
    """
    if balance not in BALANCES:
        raise ConfigError(f"balance: got {balance!r}, expected one of {list(BALANCES)}")
    if balance == "none":
        if not len(labels):
            raise ConfigError("items to draw: got 0, expected at least 1")
        return [np.arange(len(labels))], np.zeros(1, dtype=np.int64)
    kinds = labels if balance == "class" else methods
    if kinds is None or len(kinds) != len(labels):
        raise ConfigError(f"methods: got {'none' if kinds is None else len(kinds)}, expected one for each label")
    found = np.unique(kinds)
    if len(found) < 2 or found[0] != 0:
        raise ConfigError(
            f"balance {balance!r}: got items of the kinds {found.tolist()} only, expected real (0) and fake ones; "
            "draw with balance='none', or add a store that has both"
        )
    groups = [np.flatnonzero(kinds == kind) for kind in found]
    num_reals = 1 if balance == "class" else len(groups) - 1
    return groups, np.concatenate([np.zeros(num_reals, dtype=np.int64), np.arange(1, len(groups))])


def _check_rank(rank: int, world_size: int) -> None:
    """Require a rank below the world size."""
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank: got {rank} of {world_size} processes, expected 0..{world_size - 1}")
