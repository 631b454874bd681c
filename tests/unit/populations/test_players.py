import numpy as np
import pytest
import torch
from torch import nn

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import IncompatibleError, UnknownNameError
from metta_cli.populations.players import (
    NoopPlayer,
    PolicyPlayer,
    RandomPlayer,
    ScriptedPlayer,
    Turn,
    builtin_source,
    is_builtin,
    sample_actions,
    uniform_noise,
)

ACTIONS = ("move_north", "noop", "change_vibe_default")
INTERFACE = EnvironmentInterface(ACTIONS, ("tag",), (1.0,), ("type:wall",), 11, 11, 4, 2)


def turn(num_agents, *, starts=False, noise=None, scripted=None):
    observations = np.zeros((num_agents, 4, 3), np.uint8)
    noise = np.zeros(num_agents) if noise is None else np.asarray(noise)
    return Turn(observations, np.full(num_agents, starts), noise, scripted)


def rows(count):
    return np.arange(count), np.zeros(count, int), np.zeros(count, int)


def test_noise_is_one_splitmix64_stream_per_episode_and_agent():
    # slow reference in unbounded Python integers
    mask = 2**64 - 1

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    def reference(seed, *parts):
        bits = seed
        for part in parts:
            bits = mix((bits + 0x9E3779B97F4A7C15 * (part + 1)) & mask)
        return (bits >> 12) / 2**52

    got = uniform_noise(7, np.array([0, 3, 3]), np.array([1, 0, 0]), np.array([0, 5, 6]))
    assert got.tolist() == [reference(7, 0, 1, 0), reference(7, 3, 0, 5), reference(7, 3, 0, 6)]
    # published first output of SplitMix64 seeded with 1234567
    assert mix((1234567 + 0x9E3779B97F4A7C15) & mask) == 6457827717110365317


def test_noise_of_a_row_does_not_depend_on_the_other_rows():
    episodes, agents, steps = np.arange(50), np.arange(50) % 4, np.arange(50) * 3
    together = uniform_noise(1, episodes, agents, steps)
    alone = [uniform_noise(1, episodes[i : i + 1], agents[i : i + 1], steps[i : i + 1])[0] for i in range(50)]
    assert together.tolist() == alone


def test_noise_is_uniform_and_differs_in_every_coordinate():
    base = uniform_noise(0, *rows(20_000))
    assert base.min() >= 0.0
    assert base.max() < 1.0
    counts = np.histogram(base, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 50.8  # chi-squared of 19 degrees of freedom, p = 0.0001
    episodes, agents, steps = rows(20_000)
    for other in (
        uniform_noise(1, episodes, agents, steps),
        uniform_noise(0, episodes + 1, agents, steps),
        uniform_noise(0, episodes, agents + 1, steps),
        uniform_noise(0, episodes, agents, steps + 1),
    ):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03


def test_sampling_picks_the_quantile():
    probabilities = np.array([[0.2, 0.5, 0.3]] * 5)
    noise = np.array([0.0, 0.19, 0.2, 0.69, 1 - 2.0**-52])
    assert sample_actions(probabilities, noise).tolist() == [0, 0, 1, 1, 2]


def test_sampling_never_picks_an_impossible_action():
    probabilities = np.array([[0.0, 1e-30, 0.0, 0.3, 0.0]] * 3)
    assert sample_actions(probabilities, np.array([0.0, 0.5, 1 - 2.0**-52])).tolist() == [1, 3, 3]


def test_sampled_frequencies_are_the_probabilities():
    probabilities = np.array([0.1, 0.6, 0.05, 0.25])
    noise = uniform_noise(3, *rows(40_000))
    actions = sample_actions(np.tile(probabilities, (40_000, 1)), noise)
    frequencies = np.bincount(actions, minlength=4) / 40_000
    assert np.abs(frequencies - probabilities).max() < 0.01


def test_random_player_reaches_every_action_vibes_included():
    player = RandomPlayer(INTERFACE)
    actions = player.act(turn(3000, noise=uniform_noise(0, *rows(3000))))
    assert (np.bincount(actions, minlength=3) > 900).all()
    assert player.act(turn(2, noise=[0.0, 1 - 2.0**-52])).tolist() == [0, 2]


def test_noop_player_finds_noop_by_name():
    assert NoopPlayer(INTERFACE).act(turn(3)).tolist() == [1, 1, 1]


def test_scripted_player_copies_what_the_environment_proposes():
    proposed = np.array([2, 0], dtype=np.int32)
    actions = ScriptedPlayer().act(turn(2, scripted=proposed))
    proposed[:] = 1  # the environment writes over its array at the next step
    assert actions.tolist() == [2, 0]
    with pytest.raises(ValueError, match="no scripted actions"):
        ScriptedPlayer().act(turn(2))


class Counter(nn.Module):
    """Plays action `steps since the episode started`, modulo the number of actions."""

    def __init__(self, log_prob=0.0):
        super().__init__()
        self.log_prob = log_prob

    def initial_state(self, num_agents, device):
        return {"steps": torch.zeros(1, num_agents, 1)}

    def forward(self, td, state=None, action=None):
        state["steps"] *= (~td["dones"])[None, :, None]
        chosen = state["steps"][0, :, 0].long() % 3
        td["full_log_probs"] = torch.full((len(chosen), 3), -torch.inf)
        td["full_log_probs"].scatter_(1, chosen[:, None], self.log_prob)
        state["steps"] += 1
        return td


def test_policy_player_keeps_state_per_row_and_resets_it_where_an_episode_starts():
    player = PolicyPlayer(Counter(), num_agents=2)
    assert player.act(turn(2, starts=True)).tolist() == [0, 0]
    assert player.act(turn(2)).tolist() == [1, 1]
    restarted = Turn(turn(2).observations, np.array([True, False]), np.zeros(2))
    assert player.act(restarted).tolist() == [0, 2]
    assert player.act(turn(2)).tolist() == [1, 0]


@pytest.mark.parametrize("log_prob", [float("nan"), 3.0])
def test_policy_without_probabilities_is_refused(log_prob):
    player = PolicyPlayer(Counter(log_prob), num_agents=2, name="my.pt")
    with pytest.raises(IncompatibleError, match=r"my\.pt gives action probabilities that do not sum to 1"):
        player.act(turn(2))


def test_builtin_players_are_known_with_and_without_the_mock_scheme():
    assert [uri for uri in ("random", "mock://noop", "scripted", "mock://x") if is_builtin(uri)] == [
        "random",
        "mock://noop",
        "scripted",
        "mock://x",
    ]
    assert not is_builtin("./train_dir/random")
    assert builtin_source("mock://scripted").reads_scripted_actions
    assert builtin_source("random").name == "random"


def test_unknown_builtin_player_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean 'random'"):
        builtin_source("mock://randon")
