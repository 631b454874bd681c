"""The scan over segments against a step-by-step loop."""

import pytest
import torch

from metta_cli.policies.lstm import LSTMWrapper, lstm_scan


def loop(lstm, features, state, dones):
    hidden, cell = state["lstm_h"].clone(), state["lstm_c"].clone()
    outputs = []
    for step in range(features.shape[1]):
        for segment in range(features.shape[0]):
            if dones[segment, step]:
                hidden[:, segment] = 0
                cell[:, segment] = 0
        output, (hidden, cell) = lstm(features[:, step][None], (hidden, cell))
        hidden, cell = hidden.clone(), cell.clone()
        outputs.append(output[0])
    return torch.stack(outputs, dim=1)


@pytest.fixture
def lstm():
    torch.manual_seed(1)
    return torch.nn.LSTM(4, 5, 2)


def random_inputs(segments=6, steps=9, share=0.2):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(segments, steps, 4, generator=generator)
    state = {name: torch.randn(2, segments, 5, generator=generator) for name in ("lstm_h", "lstm_c")}
    return features, state, torch.rand(segments, steps, generator=generator) < share


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_scan_equals_the_loop(lstm, share):
    features, state, dones = random_inputs(share=share)
    with torch.no_grad():
        expected = loop(lstm, features, state, dones)
    torch.testing.assert_close(lstm_scan(lstm, features, state, dones), expected, rtol=1e-5, atol=1e-6)


def test_scan_leaves_the_state_alone(lstm):
    features, state, dones = random_inputs()
    before = {name: part.clone() for name, part in state.items()}
    lstm_scan(lstm, features, state, dones)
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_no_gradient_crosses_an_episode_start(lstm):
    features, state, dones = random_inputs(share=0.0)
    dones[:, 4] = True
    features.requires_grad_()
    lstm_scan(lstm, features, state, dones)[:, 4:].sum().backward()
    assert (features.grad[:, :4] == 0).all()
    assert (features.grad[:, 4:] != 0).any()


def test_a_new_network_remembers():
    wrapper = LSTMWrapper(None, torch.nn.Identity(), input_size=3, hidden_size=4, num_layers=2)
    for layer in range(2):
        bias = wrapper.lstm.state_dict()[f"bias_ih_l{layer}"] + wrapper.lstm.state_dict()[f"bias_hh_l{layer}"]
        assert bias.view(4, 4).tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4]


def test_initial_state_is_zero_and_shaped_layers_agents_width():
    wrapper = LSTMWrapper(None, torch.nn.Identity(), input_size=3, hidden_size=4, num_layers=2)
    state = wrapper.initial_state(7, "cpu")
    assert {name: tuple(part.shape) for name, part in state.items()} == {
        "lstm_h": (2, 7, 4),
        "lstm_c": (2, 7, 4),
    }
    assert not any(part.any() for part in state.values())
