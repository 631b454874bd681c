"""Tasks whose optimum is known, behind the interface of the vectorized environment."""

from __future__ import annotations

import numpy as np

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.simulator import FinishedEpisode

CENTRE = 0x55
EMPTY = 255
CUE, GO = 0, 1


class CueTask:
    """Show one of two cues, wait, then pay 1 for the action that the cue names.

    With `delay` 0 the cue is in sight when it counts: a bandit with two states. With a longer delay the
    cue is gone by then, and only memory can tell; a policy without memory gets 0.5.

    Args:
        num_agents: agents, each with an episode of its own.
        delay: steps between the cue and the choice.
        seed: of the cues.
    """

    def __init__(self, num_agents: int, delay: int, seed: int = 0) -> None:
        self.num_agents, self.delay = num_agents, delay
        self.interface = EnvironmentInterface(
            action_names=("noop", "left", "right"),
            feature_names=("cue", "go", "tag"),
            feature_scales=(1.0, 1.0, 1.0),
            tag_names=(),
            observation_height=11,
            observation_width=11,
            num_tokens=8,
            agents_per_environment=1,
        )
        self.observations = np.full((num_agents, 8, 3), EMPTY, dtype=np.uint8)
        self.final_observations = self.observations.copy()
        self.random = np.random.default_rng(seed)
        self.cue = np.zeros(num_agents, dtype=int)
        self.clock = np.zeros(num_agents, dtype=int)

    def reset(self, seed=None):
        # Out of phase, so that episodes end anywhere in a segment.
        self.clock = self.random.integers(0, self.delay + 1, self.num_agents)
        self.cue = self.random.integers(0, 2, self.num_agents)
        self._show()
        return self.observations, []

    def max_used_tokens(self):
        return 2

    def step(self, actions):
        chooses = self.clock == self.delay
        rewards = (chooses & (actions == self.cue + 1)).astype(np.float32)
        episodes = [
            FinishedEpisode(
                environment=int(slot),
                episode=0,
                map_seed=0,
                simulation_seed=0,
                num_steps=self.delay + 1,
                agent_returns=rewards[slot : slot + 1].copy(),
                teams=np.zeros(1, dtype=np.int32),
                game_stats={},
                agent_stats=[{}],
                truncated=False,
            )
            for slot in chooses.nonzero()[0]
        ]
        self.clock = np.where(chooses, 0, self.clock + 1)
        self.cue = np.where(chooses, self.random.integers(0, 2, self.num_agents), self.cue)
        self._show()
        return self.observations, rewards, chooses, np.zeros(self.num_agents, dtype=bool), episodes

    def _show(self):
        self.observations[:] = EMPTY
        shows_cue, must_go = self.clock == 0, self.clock == self.delay
        self.observations[shows_cue, 0] = np.stack(
            [np.full(self.num_agents, CENTRE), np.full(self.num_agents, CUE), self.cue + 1], axis=1
        )[shows_cue]
        row = shows_cue.astype(int)
        self.observations[must_go, row[must_go]] = (CENTRE, GO, 1)
