"""The LSTM-Transformer of 2025: its weights are recognised, load strictly, and act as they did."""

import pytest
import torch
from tensordict import TensorDict

from metta_cli.errors import CheckpointError, ConfigError
from metta_cli.policies.compat2025 import Compat2025
from metta_cli.policies.inference import build_foreign, infer_architecture
from metta_cli.policies.layout2025 import interface_2025
from metta_cli.policies.registry import create_policy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE
from tests.unit.policies import puffer_reference, transformer_reference

SIZES = {"hidden_size": 24, "cnn_channels": 8, "depth": 2}
ACTIONS = (9, 10)


def theirs(*, recurrent=True):
    torch.manual_seed(0)
    policy_class = transformer_reference.Recurrent if recurrent else transformer_reference.Policy
    return policy_class(puffer_reference.Spaces)


@pytest.mark.parametrize("recurrent", [True, False])
def test_weights_are_recognised_and_keep_their_numbers_step_by_step(recurrent):
    original = theirs(recurrent=recurrent)
    inferred = infer_architecture(original.state_dict())
    assert inferred.name == ("lstm_transformer_2025" if recurrent else "transformer_2025")
    assert inferred.args == {**SIZES, "patch_size": 2, "mlp_ratio": 2.0}
    adapted = build_foreign(inferred, original.state_dict(), EXAMPLE_INTERFACE)
    assert isinstance(adapted, Compat2025)
    assert adapted.rewriter.x_first is False
    ours = adapted.policy
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in original.state_dict().items()
    }
    names = interface_2025(34, *ACTIONS).action_names
    their_state, our_state = {"lstm_h": None, "lstm_c": None}, ours.initial_state(4, "cpu")
    for step in range(3):
        tokens = puffer_reference.tokens_2025(4, 34, seed=step)
        with torch.no_grad():
            logits, value = original.forward_eval(tokens, their_state)
            dones = torch.zeros(4, dtype=torch.bool)
            td = ours(TensorDict({"env_obs": tokens, "dones": dones}, [4]), our_state)
        expected = puffer_reference.joined(logits, names)
        torch.testing.assert_close(td["full_log_probs"], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(td["values"], value.flatten(), atol=1e-5, rtol=1e-5)


def test_the_sizes_of_2025_have_the_number_of_parameters_of_2025():
    policy = create_policy("lstm_transformer_2025", interface_2025(34, *ACTIONS), {})
    heads = sum(
        part.numel() for name, part in policy.named_parameters() if "actor" in name or "value" in name
    )
    lstm = sum(part.numel() for part in policy.lstm.parameters())
    assert lstm == 1_182_720
    assert sum(part.numel() for part in policy.parameters()) - lstm - heads == 5_584_128
    assert sum(part.numel() for part in policy.policy.transformer.parameters()) == 4_437_504


@pytest.mark.parametrize("nested", [True, False])
def test_the_names_of_2025_mean_the_layout_that_the_weights_have(nested):
    original = theirs()
    sizes = {**SIZES, "mlp_ratio": 2.0, "num_heads": 6}
    config = {"_target_": "metta.agent.external.lstm_transformer.Recurrent", "input_size": 24}
    if nested:
        inner = {"_target_": "metta.agent.external.lstm_transformer.Policy", **sizes}
        config |= {"hidden_size": 24, "policy": inner}
    else:
        config |= sizes
    adapted = build_foreign(config, original.state_dict(), EXAMPLE_INTERFACE)
    loaded = adapted.policy.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in original.state_dict().items())


def test_the_names_of_2025_mean_todays_architecture_for_its_weights():
    ours = create_policy("lstm_transformer", EXAMPLE_INTERFACE, {"width": 32, "hidden_size": 16})
    config = {
        "_target_": "metta.agent.external.lstm_transformer.Recurrent",
        "width": 32,
        "hidden_size": 16,
        "profile": "today",
    }
    again = build_foreign(config, ours.state_dict(), EXAMPLE_INTERFACE)
    assert type(again) is type(ours)


def test_another_depth_and_width_are_explained_with_the_key():
    config = {"_target_": "lstm_transformer_2025", **SIZES, "depth": 1, "mlp_ratio": 3.0}
    with pytest.raises(CheckpointError) as caught:
        build_foreign(config, theirs().state_dict(), EXAMPLE_INTERFACE)
    rows = {line.split()[0]: line.split()[-1] for line in caught.value.message.splitlines()[2:]}
    assert rows["policy.transformer.layers.1.norm1.weight"] == "depth"
    assert rows["policy.transformer.layers.0.linear1.weight"] == "mlp_ratio"


def test_a_width_that_the_heads_do_not_divide_names_the_key():
    with pytest.raises(ConfigError, match="num_heads"):
        create_policy("lstm_transformer_2025", EXAMPLE_INTERFACE, {"hidden_size": 32})


def test_it_is_trained_on_behind_the_adapter():
    original = theirs()
    adapted = build_foreign(
        infer_architecture(original.state_dict()), original.state_dict(), EXAMPLE_INTERFACE
    )
    tokens = torch.full((2, 3, 5, 3), 255, dtype=torch.uint8)
    td = TensorDict({"env_obs": tokens, "dones": torch.zeros(2, 3, dtype=torch.bool)}, [2, 3])
    td = adapted(td, None, torch.zeros(2, 3, dtype=torch.int64))
    (td["act_log_prob"].sum() + td["value"].sum()).backward()
    missing = [name for name, part in adapted.policy.named_parameters() if part.grad is None]
    assert missing == []
