"""Tensors tell what policy they belong to, and it plays with the numbers of the original class."""

import dataclasses

import pufferlib.models
import pytest
import torch
from tensordict import TensorDict

from metta_cli.errors import CheckpointError, ConfigError
from metta_cli.policies.compat2025 import Compat2025
from metta_cli.policies.external import ForeignEnvironment, PytorchAgent
from metta_cli.policies.heads import VerbHeads
from metta_cli.policies.inference import build_foreign, infer_architecture
from metta_cli.policies.layout2025 import interface_2025
from metta_cli.policies.registry import create_policy
from metta_cli.policies.remapping import RemappedPolicy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, random_observations
from tests.unit.policies import puffer_reference as reference

FLAT = ForeignEnvironment(**dataclasses.asdict(EXAMPLE_INTERFACE), flat_actions=True)
TWO_HEADS = dataclasses.replace(FLAT, flat_actions=False)


def act(policy, observations, state=None):
    dones = torch.zeros(len(observations), dtype=torch.bool)
    with torch.no_grad():
        return policy(TensorDict({"env_obs": observations, "dones": dones}, [len(observations)]), state)


def puffer(*, recurrent=True, num_channels=22, action_sizes=(7, 9), hidden_size=16, cnn_channels=8):
    torch.manual_seed(0)
    policy = reference.Policy(reference.Spaces, cnn_channels, hidden_size, num_channels, action_sizes)
    if not recurrent:
        return policy
    return reference.Recurrent(reference.Spaces, policy, hidden_size, hidden_size)


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize(
    ("num_channels", "sizes"), [(21, (9, 10)), (22, (7, 9)), (24, (8, 9)), (25, (6, 4)), (34, (9, 9))]
)
def test_puffers_metta_policy_is_recognised_and_keeps_its_numbers(recurrent, num_channels, sizes):
    theirs = puffer(recurrent=recurrent, num_channels=num_channels, action_sizes=sizes)
    inferred = infer_architecture(theirs.state_dict())
    assert inferred.name == ("puffer_recurrent" if recurrent else "puffer")
    assert inferred.args == {"hidden_size": 16, "cnn_channels": 8}
    adapted = build_foreign(inferred, theirs.state_dict(), EXAMPLE_INTERFACE)
    assert isinstance(adapted, Compat2025)
    tokens = reference.tokens_2025(5, num_channels)
    with torch.no_grad():
        logits, _ = theirs.forward_eval(tokens, {"lstm_h": None, "lstm_c": None})
    expected = reference.joined(logits, interface_2025(num_channels, *sizes).action_names)
    actual = act(adapted.policy, tokens)["full_log_probs"]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_what_fits_the_environment_is_taken_to_be_of_today():
    policy = create_policy("puffer_recurrent", EXAMPLE_INTERFACE, {"hidden_size": 8, "cnn_channels": 4})
    again = build_foreign(infer_architecture(policy.state_dict()), policy.state_dict(), EXAMPLE_INTERFACE)
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    expected = act(policy, observations)["full_log_probs"]
    torch.testing.assert_close(act(again, observations)["full_log_probs"], expected)


def test_what_fits_neither_today_nor_2025_is_refused():
    tensors = puffer(num_channels=17, action_sizes=(3, 4)).state_dict()
    with pytest.raises(CheckpointError, match="17 channels"):
        build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE)


@pytest.mark.parametrize("env", [FLAT, TWO_HEADS])
@pytest.mark.parametrize("recurrent", [True, False])
def test_pufferlibs_generic_policy_is_recognised_and_keeps_its_numbers(env, recurrent):
    torch.manual_seed(0)
    theirs = pufferlib.models.Default(env, 16)
    if recurrent:
        theirs = pufferlib.models.LSTMWrapper(env, theirs, 16, 16)
    agent = build_foreign(infer_architecture(theirs.state_dict()), theirs.state_dict(), EXAMPLE_INTERFACE)
    assert isinstance(agent, PytorchAgent)
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    with torch.no_grad():
        logits, value = theirs.forward_eval(observations, {"lstm_h": None, "lstm_c": None})
    names = ("noop_0", "move_0", "move_1", "move_2", "move_3", "change_vibe_0")
    expected = logits.log_softmax(-1) if env is FLAT else reference.joined(logits, names)
    td = act(agent, observations)
    torch.testing.assert_close(td["full_log_probs"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(td["values"], value.flatten(), atol=1e-5, rtol=1e-5)


OWN = [
    ("fast", {"hidden_size": 32, "num_layers": 1}),
    ("lstm_transformer", {"width": 64, "hidden_size": 24, "depth": 3, "feedforward": 40}),
]


@pytest.mark.parametrize(("name", "args"), OWN)
def test_our_own_architectures_are_recognised(name, args):
    policy = create_policy(name, EXAMPLE_INTERFACE, args)
    inferred = infer_architecture(policy.state_dict())
    assert (inferred.name, inferred.args) == (name, args)
    again = build_foreign(inferred, policy.state_dict(), EXAMPLE_INTERFACE)
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    expected = act(policy, observations)["full_log_probs"]
    torch.testing.assert_close(act(again, observations)["full_log_probs"], expected)


def test_unknown_tensors_name_the_alternatives():
    with pytest.raises(CheckpointError, match="puffer_recurrent") as caught:
        infer_architecture({"backbone.weight": torch.zeros(3, 4)})
    assert "backbone.weight [3, 4]" in caught.value.message


def test_a_mismatch_is_a_table_of_tensors_shapes_causes_and_keys():
    tensors = puffer().state_dict()
    config = {"_target_": "puffer_recurrent", "hidden_size": 32, "cnn_channels": 4}
    with pytest.raises(CheckpointError) as caught:
        build_foreign(config, tensors, EXAMPLE_INTERFACE)
    lines = [line.split() for line in caught.value.message.splitlines()]
    assert lines[1] == ["tensor", "in", "the", "file", "expected", "likely", "cause", "key", "to", "change"]
    rows = {line[0]: line for line in lines[2:]}
    assert rows["policy.network.0.weight"][-1] == "cnn_channels"
    assert rows["policy.network.0.bias"][1:3] == ["[8]", "[4]"]
    assert rows["policy.self_encoder.0.weight"][-1] == "hidden_size"


def test_a_tensor_too_many_or_too_few_is_named():
    tensors = puffer().state_dict()
    tensors["policy.extra"] = tensors.pop("policy.value.bias")
    with pytest.raises(CheckpointError) as caught:
        build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE)
    assert "policy.extra" in caught.value.message
    assert "policy.value.bias" in caught.value.message


def test_weights_that_are_tied_may_be_in_the_file_once_but_not_with_two_contents():
    tensors = dict(puffer().state_dict())
    expected = build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE).state_dict()
    once = {name: tensor for name, tensor in tensors.items() if not name.startswith("cell.")}
    again = build_foreign(infer_architecture(once), once, EXAMPLE_INTERFACE).state_dict()
    assert all(torch.equal(again[name], expected[name]) for name in expected)
    tensors["cell.weight_hh"] = tensors["cell.weight_hh"] + 1
    with pytest.raises(CheckpointError, match=r"cell\.weight_hh"):
        build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE)


def test_policies_with_permuted_feature_ids_act_identically_when_the_names_are_given():
    torch.manual_seed(0)
    order = (3, 0, 4, 1, 2)
    names = EXAMPLE_INTERFACE.feature_names
    permuted = tuple(names[index] for index in order)
    policy = create_policy("puffer", EXAMPLE_INTERFACE, {"hidden_size": 8, "cnn_channels": 4})
    tensors = policy.state_dict()
    other_interface = dataclasses.replace(EXAMPLE_INTERFACE, feature_names=permuted)
    other = create_policy("puffer", other_interface, {"hidden_size": 8, "cnn_channels": 4})
    columns = [policy.channels.names.index(name) for name in other.channels.names]
    assert columns != sorted(columns)
    changed = {**tensors, "network.0.weight": tensors["network.0.weight"][:, columns]}
    changed["self_encoder.0.weight"] = tensors["self_encoder.0.weight"][:, columns]
    config = {"_target_": "puffer", "hidden_size": 8, "cnn_channels": 4, "feature_names": list(permuted)}
    by_name = build_foreign(config, changed, EXAMPLE_INTERFACE)
    assert isinstance(by_name, RemappedPolicy)
    observations = random_observations(EXAMPLE_INTERFACE, 8)
    expected = act(policy, observations)["full_log_probs"]
    torch.testing.assert_close(act(by_name, observations)["full_log_probs"], expected, atol=1e-6, rtol=1e-6)


def test_the_profile_can_be_switched():
    tensors = puffer(num_channels=13, action_sizes=(3, 4)).state_dict()
    config = {"_target_": "puffer_recurrent", "hidden_size": 16, "cnn_channels": 8, "profile": 2025}
    assert isinstance(build_foreign(config, tensors, EXAMPLE_INTERFACE), Compat2025)
    with pytest.raises(ConfigError, match="profile"):
        build_foreign({**config, "profile": "1999"}, tensors, EXAMPLE_INTERFACE)


def test_names_of_channels_and_verbs_of_2025_can_be_given():
    tensors = puffer(num_channels=2, action_sizes=(3, 4)).state_dict()
    config = {"_target_": "puffer_recurrent", "hidden_size": 16, "cnn_channels": 8, "profile": "2025"}
    names = {"feature_names": ["heart", "type_id"], "verbs": ["rotate", "noop", "move"]}
    policy = build_foreign({**config, **names}, tensors, EXAMPLE_INTERFACE)
    assert policy.known.feature_names == ("heart", "type_id")
    assert policy.known.action_names[:5] == ("rotate_0", "rotate_1", "rotate_2", "rotate_3", "noop_0")
    with pytest.raises(CheckpointError, match="unknown verbs: jump"):
        build_foreign({**config, "verbs": ["rotate", "noop", "jump"]}, tensors, EXAMPLE_INTERFACE)


class Grid21(torch.nn.Module):
    """As PufferLib's own file: a dense grid goes in."""

    is_continuous = False

    def __init__(self, env, hidden_size=16, cnn_channels=8):
        super().__init__()
        tokens_policy = reference.Policy(reference.Spaces, cnn_channels, hidden_size, 21, (9, 10))
        for name in ("network", "self_encoder", "actor", "value"):
            setattr(self, name, getattr(tokens_policy, name))
        self.register_buffer("max_vec", tokens_policy.max_vec)
        self.shape = env.single_observation_space.shape

    def encode_observations(self, observations, state=None):
        assert observations.shape[1:] == self.shape == (11, 11, 21)
        grid = observations.permute(0, 3, 1, 2).float() / self.max_vec
        return torch.cat([self.self_encoder(grid[:, :, 5, 5]), self.network(grid)], dim=1)

    def decode_actions(self, hidden):
        return [head(hidden) for head in self.actor], self.value(hidden)


def test_a_class_over_dense_grids_is_the_same_policy_as_the_one_recognised_from_its_weights():
    torch.manual_seed(0)
    theirs = Grid21(dataclasses.replace(FLAT, feature_names=("x",) * 21, is_grid=True))
    tensors = theirs.state_dict()
    config = {"_target_": f"{__name__}.Grid21", "observations": "grid", "hidden_size": 16, "cnn_channels": 8}
    described = build_foreign(config, tensors, EXAMPLE_INTERFACE)
    recognised = build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE)
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    one, two = act(described, observations), act(recognised, observations)
    torch.testing.assert_close(one["values"], two["values"], atol=1e-5, rtol=1e-5)
    assert one["values"].std() > 0.001


@pytest.mark.parametrize(("num_channels", "first_axis"), [(21, 0x25), (22, 0x52)])
def test_rows_come_first_in_the_era_of_dense_grids_and_x_after_it(num_channels, first_axis):
    tensors = puffer(num_channels=num_channels).state_dict()
    policy = build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE)
    altar = EXAMPLE_INTERFACE.tag_names.index("type:altar")
    tokens = torch.tensor([[[0x25, EXAMPLE_INTERFACE.feature_names.index("tag"), altar]]], dtype=torch.uint8)
    shown = policy.rewriter(tokens, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    assert [first_axis, 0, 8] in shown[0].tolist()


def test_pufferlibs_generic_policy_over_dense_grids_is_recognised():
    torch.manual_seed(0)
    env = dataclasses.replace(TWO_HEADS, feature_names=("x",) * 21, is_grid=True)
    theirs = pufferlib.models.Default(env, 16)
    theirs.decoder = torch.nn.Linear(16, 7 + 9)
    tensors = theirs.state_dict()
    policy = build_foreign(infer_architecture(tensors), tensors, EXAMPLE_INTERFACE)
    assert isinstance(policy, Compat2025)
    assert VerbHeads(policy.known.action_names).sizes == (7, 9)
    assert torch.isfinite(act(policy, random_observations(EXAMPLE_INTERFACE, 3))["full_log_probs"]).any()


class UnderOneName(torch.nn.Module):
    """A user's class with everything under `policy.`, a prefix that the reader of files takes off."""

    def __init__(self, env):
        super().__init__()
        self.policy = torch.nn.ModuleDict(
            {
                "actor": torch.nn.Linear(3, len(env.action_names)),
                "value": torch.nn.Linear(3, 1),
            }
        )

    def forward(self, observations, state=None):
        features = observations.float().mean(1)
        return self.policy["actor"](features), self.policy["value"](features)


@pytest.mark.parametrize("prefix", ["", "policy."])
def test_a_class_that_keeps_everything_under_one_name_gets_its_weights(prefix):
    theirs = UnderOneName(EXAMPLE_INTERFACE)
    tensors = {prefix + name.removeprefix("policy."): part for name, part in theirs.state_dict().items()}
    agent = build_foreign({"_target_": f"{__name__}.UnderOneName"}, tensors, EXAMPLE_INTERFACE)
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    expected = theirs(observations)[0].log_softmax(-1)
    torch.testing.assert_close(act(agent, observations)["full_log_probs"], expected)
