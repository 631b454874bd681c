"""A policy of July 2025 sees today's world in its own terms and acts in it."""

import dataclasses

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.config.catalogue import find_environment
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import CheckpointError
from metta_cli.policies.compat2025 import Compat2025
from metta_cli.policies.layout2025 import interface_2025
from metta_cli.policies.registry import create_policy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, PolicyContract

KNOWN = interface_2025(22)
LASER_TAG = dataclasses.replace(
    EXAMPLE_INTERFACE,
    action_names=(*EXAMPLE_INTERFACE.action_names, "change_vibe_laser"),
    feature_names=("agent:group", "last_action", "tag", "vibe", "inv:heart", "inv:frozen"),
    feature_scales=(1.0,) * 6,
)
GROUP, LAST, TAG, VIBE, HEART, FROZEN = range(6)
BLUE, AGENT, ALTAR, WALL = range(4)
NOOP, NORTH, SOUTH, WEST, EAST, DEFAULT, LASER = range(7)


class TestAPuffersWayKeepsTheContract(PolicyContract):
    def make_policy(self, interface):
        args = {"hidden_size": 16, "cnn_channels": 8}
        return Compat2025(create_policy("puffer_recurrent", KNOWN, args), KNOWN, interface)


class Fixed(nn.Module):
    """Keeps what it saw; always wants the same mixture of pairs."""

    def __init__(self, **probabilities):
        super().__init__()
        wanted = [probabilities.get(name, 0.0) for name in KNOWN.action_names]
        self.log_probs = torch.tensor(wanted).log()

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        self.seen = td["env_obs"]
        td["full_log_probs"] = self.log_probs.expand(len(self.seen), -1)
        td["values"] = torch.zeros(len(self.seen))
        return td


def step(policy, *tokens, state=None):
    observations = torch.tensor([[*tokens, (255, 255, 255)]], dtype=torch.uint8)
    td = TensorDict({"env_obs": observations, "dones": torch.zeros(1, dtype=torch.bool)}, [1])
    return policy(td, policy.initial_state(1, "cpu") if state is None else state)


def test_tokens_are_those_of_2025():
    fixed = Fixed(noop_0=1.0)
    step(
        Compat2025(fixed, KNOWN, LASER_TAG),
        (0x25, TAG, ALTAR),  # row 2, column 5
        (0x36, TAG, BLUE),  # no such thing in 2025
        (0x36, FROZEN, 7),
        (0x36, HEART, 3),
        (0xFE, GROUP, 2),
        (0x55, VIBE, 1),
    )
    shown = [tuple(token) for token in fixed.seen[0].tolist() if token[0] != 255]
    own = [(0x55, 4, 0), (0x55, 9, 0), (0x55, 10, 0)]  # faces up, did nothing
    assert shown == [*own, (0x52, 0, 8), (0x63, 3, 1), (0x63, 18, 3), (0x55, 1, 2)]


@pytest.mark.parametrize(
    ("pair", "tokens", "expected"),
    [
        ("noop_0", [], NOOP),
        ("move_0", [], NORTH),
        ("move_1", [], SOUTH),
        ("move_0", [(0x45, TAG, WALL)], NOOP),
        ("move_1", [(0x65, TAG, WALL)], NOOP),
        ("get_items_0", [], NOOP),
        ("get_items_0", [(0x45, TAG, ALTAR)], NORTH),
        ("put_items_0", [(0x45, TAG, ALTAR)], NORTH),
        ("attack_3", [], LASER),
        ("attack_3", [(0x55, VIBE, 1)], NORTH),
        ("rotate_2", [], NOOP),
        ("swap_0", [], NOOP),
    ],
)
def test_verbs_of_an_agent_that_faces_up(pair, tokens, expected):
    td = step(Compat2025(Fixed(**{pair: 1.0}), KNOWN, LASER_TAG), *tokens)
    assert td["full_log_probs"].exp()[0, expected] == 1.0


@pytest.mark.parametrize(
    ("turn", "ahead", "behind"), [(0, NORTH, SOUTH), (1, SOUTH, NORTH), (2, WEST, EAST), (3, EAST, WEST)]
)
def test_a_turn_decides_where_forward_is(turn, ahead, behind):
    turning = Compat2025(Fixed(**{f"rotate_{turn}": 1.0}), KNOWN, LASER_TAG)
    state = turning.initial_state(1, "cpu")
    step(turning, state=state)
    moving = Fixed(move_0=0.75, move_1=0.25)
    turning.policy = moving
    probabilities = step(turning, state=state)["full_log_probs"].exp()[0]
    assert probabilities[ahead] == pytest.approx(0.75)
    assert probabilities[behind] == pytest.approx(0.25)
    own = [tuple(token) for token in moving.seen[0].tolist() if token[0] == 0x55]
    assert own == [(0x55, 4, turn), (0x55, 9, 2), (0x55, 10, turn)]


def test_the_last_action_is_the_one_that_the_environment_reports():
    fixed = Fixed(move_0=0.5, attack_4=0.5)
    policy = Compat2025(fixed, KNOWN, LASER_TAG)
    state = policy.initial_state(1, "cpu")
    step(policy, state=state)
    step(policy, (0xFE, LAST, LASER), state=state)
    own = [tuple(token) for token in fixed.seen[0].tolist() if token[0] == 0x55]
    assert own == [(0x55, 4, 0), (0x55, 9, 5), (0x55, 10, 4)]


def test_turns_come_as_often_as_the_policy_wants_them():
    policy = Compat2025(Fixed(rotate_1=0.3, rotate_3=0.2, move_0=0.5), KNOWN, LASER_TAG)
    state = policy.initial_state(4000, "cpu")
    observations = torch.full((4000, 4, 3), 255, dtype=torch.uint8)
    numbers = torch.arange(4000)
    observations[:, 0] = torch.stack([numbers * 0 + 0x11, numbers % 2 * HEART, numbers // 20], 1).to(
        torch.uint8
    )
    observations[:, 1] = torch.stack([numbers * 0 + 0x12, numbers * 0 + HEART, numbers % 20], 1).to(
        torch.uint8
    )
    td = TensorDict({"env_obs": observations, "dones": torch.zeros(4000, dtype=torch.bool)}, [4000])
    turned = policy(td, state)["full_log_probs"].exp()[:, NOOP] == 1
    orientation = state["compat_turn"][0, :, 0]
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert (orientation == 1).float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert (orientation == 3).float().mean().item() == pytest.approx(0.2, abs=0.04)


def test_an_environment_of_another_size_is_a_clear_error():
    wide = dataclasses.replace(LASER_TAG, observation_width=13)
    with pytest.raises(CheckpointError, match="11x13"):
        Compat2025(Fixed(), KNOWN, wide)


@pytest.mark.parametrize(
    ("num_channels", "last"),
    [(21, "laser"), (22, "blueprint"), (24, "blueprint"), (25, "blueprint"), (34, "unknown_33")],
)
def test_channels_have_the_names_of_the_layout_on_record(num_channels, last):
    assert interface_2025(num_channels).feature_names[-1] == last


def scripted_weights(condition_channel, condition_value):
    """A Puffer that moves forward where a channel of its own cell has the value, and else turns right."""
    policy = create_policy("puffer", KNOWN, {"hidden_size": 4, "cnn_channels": 2})
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        policy.self_encoder[0].weight[0, condition_channel] = 1.0
        policy.self_encoder[0].bias[0] = 1.0 - condition_value
        verb, argument = policy.actor
        verb.bias[2], verb.weight[1, 0] = 50.0, 100.0
        argument.bias[0], argument.bias[3] = 50.0, 100.0
    return policy


def travel(policy, num_steps):
    """Return how far an agent of today's environment is south and east of its start after every step."""
    spec = find_environment("navigation/simple")
    with VectorEnvironment(spec, num_environments=1, seed=1) as environment:
        adapted = Compat2025(policy, KNOWN, environment.interface)
        state = adapted.initial_state(1, "cpu")
        observations, _ = environment.reset()
        places = [place_of_agent(environment)]
        for _ in range(num_steps):
            tokens = torch.from_numpy(observations.copy())
            td = TensorDict({"env_obs": tokens, "dones": torch.zeros(1, dtype=torch.bool)}, [1])
            observations, *_ = environment.step(adapted(td, state)["actions"].numpy())
            places.append(place_of_agent(environment))
    return [(row - places[0][0], column - places[0][1]) for row, column in places[1:]]


def place_of_agent(environment):
    (simulator,) = environment._stepper._batch._simulators
    (agent,) = (thing for thing in simulator.grid.grid_objects().values() if "agent_id" in thing)
    return agent["r"], agent["c"]


def test_turn_right_once_then_move_forward_in_the_simulator():
    orientation = KNOWN.feature_names.index("agent:orientation")
    expected = [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert travel(scripted_weights(orientation, 3), 4) == expected


def test_turn_right_then_move_forward_again_and_again_in_the_simulator():
    last_action = KNOWN.feature_names.index("last_action")
    expected = [(0, 0), (0, 1), (0, 1), (0, 2), (0, 2), (0, 3)]
    assert travel(scripted_weights(last_action, 2), 6) == expected


def test_tokens_that_mean_nothing_in_2025_crowd_nothing_out():
    fixed = Fixed(noop_0=1.0)
    many = dataclasses.replace(LASER_TAG, num_tokens=300)
    step(Compat2025(fixed, KNOWN, many), *[(0x36, TAG, BLUE)] * 250, (0x25, TAG, ALTAR))
    assert fixed.seen[0].tolist()[3:] == [[0x52, 0, 8]]


def test_turns_go_on_while_nothing_changes_in_sight():
    policy = Compat2025(Fixed(rotate_1=0.5, rotate_3=0.5), KNOWN, LASER_TAG)
    state = policy.initial_state(1, "cpu")
    orientations = []
    for _ in range(60):
        step(policy, (0x25, TAG, ALTAR), state=state)
        orientations.append(int(state["compat_turn"][0, 0, 0]))
    assert 15 < orientations.count(1) < 45
    assert orientations.count(1) + orientations.count(3) == 60


def test_a_policy_that_only_turns_turns_whatever_the_rounding():
    policy = Compat2025(Fixed(rotate_1=1 - 2**-22), KNOWN, LASER_TAG)
    chance = torch.tensor([1 - 2**-24])
    false = torch.zeros(1, 2, dtype=torch.bool)
    log_probs, orientation, _ = policy.translator(
        policy.policy.log_probs[None], torch.zeros(1, dtype=torch.long), chance, false, false[:, 0]
    )
    assert orientation.tolist() == [1]
    assert log_probs.exp()[0, NOOP] == 1


def test_what_was_done_stays_possible_when_the_weights_have_changed():
    torch.manual_seed(0)
    network = create_policy("puffer_recurrent", KNOWN, {"hidden_size": 16, "cnn_channels": 8})
    with torch.no_grad():
        for head in network.policy.actor:
            head.weight.mul_(300)
            head.weight[0] = -1.0  # noop is hardly ever wanted
    policy = Compat2025(network, KNOWN, LASER_TAG)
    state = policy.initial_state(6, "cpu")
    observations, actions = [], []
    for _ in range(12):
        place, amount = torch.randint(0, 11, (6, 9, 2)), torch.randint(0, 99, (6, 9))
        location = place[..., 0] * 16 + place[..., 1]
        seen = torch.stack([location, torch.full_like(amount, HEART), amount], -1).to(torch.uint8)
        td = policy(TensorDict({"env_obs": seen, "dones": torch.zeros(6, dtype=torch.bool)}, [6]), state)
        observations.append(seen)
        actions.append(td["actions"])
    segments = torch.stack(observations, dim=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    dones = torch.zeros(6, 12, dtype=torch.bool)
    judged = policy(TensorDict({"env_obs": segments, "dones": dones}, [6, 12]), None, torch.stack(actions, 1))
    assert torch.isfinite(judged["act_log_prob"]).all()
