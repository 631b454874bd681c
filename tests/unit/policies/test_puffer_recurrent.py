"""`puffer_recurrent` is PufferLib's policy: same tensors, same numbers."""

import pytest
import torch
from tensordict import TensorDict

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.errors import ConfigError
from metta_cli.policies.heads import VerbHeads
from metta_cli.policies.registry import create_policy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE
from tests.unit.policies import puffer_reference as reference


def interface_of(num_channels, counts):
    verbs = ("noop", "move", "rotate", "put_items", "get_items", "attack", "swap")
    names = tuple(f"{verb}_{i}" for verb, count in zip(verbs, counts, strict=True) for i in range(count))
    features = tuple(f"feature_{index}" for index in range(num_channels))
    return EnvironmentInterface(names, features, (1.0,) * num_channels, (), 11, 11, 40, 1)


COUNTS = (1, 2, 4, 1, 1, 9, 1)


def pair(num_channels=22, hidden_size=16, cnn_channels=8):
    torch.manual_seed(0)
    kwargs = {"hidden_size": hidden_size, "cnn_channels": cnn_channels}
    theirs = reference.Recurrent(
        reference.Spaces, input_size=hidden_size, num_channels=num_channels, **kwargs
    )
    torch.nn.init.normal_(theirs.lstm.bias_ih_l0)  # the wrapper starts them at uniform noise
    interface = interface_of(num_channels, COUNTS)
    ours = create_policy("puffer_recurrent", interface, kwargs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours, interface


@pytest.mark.parametrize(
    ("num_channels", "hidden_size", "cnn_channels"), [(22, 16, 8), (21, 32, 4), (34, 8, 16)]
)
def test_the_state_dict_has_pufferlibs_keys_and_shapes(num_channels, hidden_size, cnn_channels):
    theirs, ours, _ = pair(num_channels, hidden_size, cnn_channels)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


@pytest.mark.parametrize("num_channels", [21, 22, 24, 25, 34])
def test_logits_values_and_memory_are_those_of_pufferlib_step_by_step(num_channels):
    theirs, ours, interface = pair(num_channels)
    their_state = {"lstm_h": None, "lstm_c": None}
    our_state = ours.initial_state(6, "cpu")
    for step in range(4):
        tokens = reference.tokens_2025(6, num_channels, seed=step)
        with torch.no_grad():
            logits, value = theirs.forward_eval(tokens, their_state)
            td = ours(
                TensorDict({"env_obs": tokens, "dones": torch.zeros(6, dtype=torch.bool)}, [6]), our_state
            )
        expected = reference.joined(logits, interface.action_names)
        torch.testing.assert_close(td["full_log_probs"], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(td["values"], value.flatten(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(our_state["lstm_h"][0], their_state["lstm_h"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(our_state["lstm_c"][0], their_state["lstm_c"], atol=1e-5, rtol=1e-5)


def test_segments_are_judged_as_pufferlib_judges_them():
    theirs, ours, interface = pair()
    tokens = torch.stack([reference.tokens_2025(3, seed=step) for step in range(5)], dim=1)
    actions = torch.arange(15).view(3, 5)
    logits, value = theirs(tokens, {"lstm_h": None, "lstm_c": None})
    td = ours(
        TensorDict({"env_obs": tokens, "dones": torch.zeros(3, 5, dtype=torch.bool)}, [3, 5]), None, actions
    )
    expected = reference.joined(logits, interface.action_names).view(3, 5, -1)
    torch.testing.assert_close(td["full_log_probs"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(td["value"], value, atol=1e-5, rtol=1e-5)


def test_the_cell_is_the_lstm():
    policy = create_policy("puffer_recurrent", EXAMPLE_INTERFACE, {"hidden_size": 8, "cnn_channels": 4})
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert all(getattr(policy.cell, name) is getattr(policy.lstm, f"{name}_l0") for name in names)


def test_a_window_that_is_too_small_is_a_clear_error():
    import dataclasses

    small = dataclasses.replace(EXAMPLE_INTERFACE, observation_height=9, observation_width=9)
    with pytest.raises(ConfigError, match="9x9"):
        create_policy("puffer_recurrent", small, {})


def test_two_heads_split_names_as_the_simulators_codec_does():
    from metta_cli.environments.actions import ActionCodec

    names = ("noop", "move_north", "move_east", "change_vibe_default", "change_vibe_red_heart")
    heads, codec = VerbHeads(names), ActionCodec(names)
    assert heads.verbs == codec.verbs
    assert heads.valid.tolist() == codec.valid.tolist()
    pairs = torch.stack([heads.verb_of, heads.argument_of], dim=1)
    assert pairs.tolist() == codec.verb_argument(torch.arange(5).numpy()).tolist()


def test_pairs_that_mean_nothing_have_no_probability():
    heads = VerbHeads(("noop", "move_north", "move_east"))
    log_probs = heads(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    p_noop = 1 / (1 + 2.718281828**-1)
    expected = torch.tensor(
        [[p_noop, (1 - p_noop) / (1 + 148.413159), (1 - p_noop) * 148.413159 / 149.413159]]
    )
    torch.testing.assert_close(log_probs.exp(), expected)
