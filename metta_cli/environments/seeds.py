"""Which map and which random numbers an episode gets, as a function of its number alone."""

from __future__ import annotations

import hashlib

SEED_BITS = 31
"""Width of a derived seed: MettaGrid takes unsigned 32-bit seeds, and 31 bits are safe as signed ones too."""


class EpisodeSeeds:
    """Derives the seeds of every episode from one seed.

    An episode is known by its number, `round * num_environments + slot`, counted over all slots of a
    vectorized environment. Nothing else enters, so results do not depend on how the slots are spread over
    worker processes, nor on which episode happens to end first.

    Args:
        seed: the seed of the run.
        pool_size: how many different maps there are; 0 makes a new map for every episode.
    """

    def __init__(self, seed: int, pool_size: int = 0) -> None:
        self.seed = seed
        self.pool_size = pool_size

    def map_seed(self, episode: int) -> int:
        """Return the seed of the map of an episode, in `[0, 2**31)`; with a pool, one of its seeds."""
        if self.pool_size == 0:
            return self._draw("map", episode)
        return self._draw("pool", self._draw("map", episode) % self.pool_size)

    def simulation_seed(self, episode: int) -> int:
        """Return the seed of the simulator for an episode, in `[0, 2**31)`.

        It drives the order in which agents act and random queries, not the map.
        """
        return self._draw("simulation", episode)

    def fraction(self, parameter: str, episode: int) -> float:
        """Return a number from `[0, 1)` that a parameter of an episode is drawn by."""
        return self._draw(f"parameter {parameter}", episode) / (1 << SEED_BITS)

    def first_episode_steps(self, slot: int, max_steps: int) -> int:
        """Return after how many steps a staggered first episode is cut, uniform in `[1, max_steps]`."""
        return 1 + self._draw("stagger", slot) % max_steps

    def _draw(self, stream: str, index: int) -> int:
        text = f"{self.seed}/{stream}/{index}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> (64 - SEED_BITS)
