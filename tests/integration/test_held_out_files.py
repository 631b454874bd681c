"""Files of every era, in every container, made by PufferLib's own classes: they keep their numbers and play.

Every file is read as a user's would be, by its address alone. Behind the adapter it is compared with the
class that made it, and then it plays the three suites of the specification.
"""

import warnings
from dataclasses import asdict

import pufferlib.models
import pytest
import safetensors.torch
import torch
from tensordict import TensorDict

from metta_cli.config.catalogue import find_environment, find_suite
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.evaluation.suite import play_suite
from metta_cli.policies.compat2025 import Compat2025
from metta_cli.policies.external import ForeignEnvironment
from metta_cli.policies.layout2025 import interface_2025
from metta_cli.runs.evaluate import policy_source
from metta_cli.runs.policies import Trust, load_policy
from tests.unit.policies import puffer_reference as puffer
from tests.unit.policies import transformer_reference as transformer

NUM_AGENTS = 4
SUITES = ("navigation_single", "laser_tag", "full_eval")


def metta_policy(num_channels, action_sizes, *, recurrent=True):
    network = puffer.Policy(puffer.Spaces, num_channels=num_channels, action_sizes=action_sizes)
    return puffer.Recurrent(puffer.Spaces, network) if recurrent else network


def generic(num_channels, *, recurrent):
    """PufferLib's generic policy of 2025: over 200 tokens, or over a dense grid."""
    known = interface_2025(num_channels or 24)
    env = ForeignEnvironment(**asdict(known), is_grid=num_channels is not None)
    policy = pufferlib.models.Default(env, 16)
    return pufferlib.models.LSTMWrapper(env, policy, 16, 16) if recurrent else policy


ERAS = {
    "dense grid, 21 channels": (lambda: metta_policy(21, (9, 10)), interface_2025(21, 9, 10)),
    "June, 22 channels": (lambda: metta_policy(22, (7, 9)), interface_2025(22, 7, 9)),
    "July, 24 channels": (lambda: metta_policy(24, (8, 9)), interface_2025(24, 8, 9)),
    "August, 25 channels": (lambda: metta_policy(25, (9, 9)), interface_2025(25, 9, 9)),
    "34 channels": (lambda: metta_policy(34, (9, 10)), interface_2025(34, 9, 10)),
    "without memory": (lambda: metta_policy(22, (7, 9), recurrent=False), interface_2025(22)),
    "LSTM-Transformer": (lambda: transformer.Recurrent(puffer.Spaces), interface_2025(34, 9, 10)),
    "Transformer": (lambda: transformer.Policy(puffer.Spaces), interface_2025(34, 9, 10)),
    "generic, tokens": (lambda: generic(None, recurrent=True), interface_2025(24)),
    "generic, tokens, without memory": (lambda: generic(None, recurrent=False), interface_2025(24)),
    "generic, grid": (lambda: generic(24, recurrent=True), interface_2025(24)),
}


def under(key):
    """Write the weights under a key, beside what a trainer keeps there."""

    def write(module, path):
        optimizer = torch.optim.Adam(module.parameters())
        content = {
            key: module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": 3,
            "args": [1, None],
        }
        torch.save(content, path)

    return write


def prefixed(prefix):
    return lambda module, path: torch.save(
        {prefix + name: tensor for name, tensor in module.state_dict().items()}, path
    )


def compiled_inside(module, path):
    """As `torch.compile` of a part leaves it: in the middle of the names."""
    names = {name: name.replace("policy.", "policy._orig_mod.", 1) for name in module.state_dict()}
    torch.save({names[name]: tensor for name, tensor in module.state_dict().items()}, path)


class Traceable(torch.nn.Module):
    """The parts of a module, and a forward that can be traced."""

    def __init__(self, module):
        super().__init__()
        for name, part in module.named_children():
            self.add_module(name, part)

    def forward(self, numbers):
        return numbers + sum(parameter.sum() for parameter in self.parameters())


def torchscript(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and files of it are about
        torch.jit.save(torch.jit.trace(Traceable(module), torch.zeros(1)), path)


def safetensors_file(module, path):
    safetensors.torch.save_file({name: part.clone() for name, part in module.state_dict().items()}, path)


CONTAINERS = {
    "plain": ("x.pt", lambda module, path: torch.save(module.state_dict(), path)),
    **{
        f"under {key}": ("x.pt", under(key))
        for key in ("model", "policy", "state_dict", "model_state_dict", "policy_state_dict", "agent")
    },
    "DataParallel": ("x.pth", prefixed("module.")),
    "compiled": ("x.ckpt", prefixed("_orig_mod.")),
    "compiled inside": ("x.pt", compiled_inside),
    "nested wrappers": ("x.bin", prefixed("policy.module._orig_mod.module.")),
    "TorchScript": ("x.ts", torchscript),
    "safetensors": ("x.safetensors", safetensors_file),
    "pickled module": ("x.pt", torch.save),
}
PAIRS = [(era, "plain") for era in ERAS] + [
    (list(ERAS)[index % len(ERAS)], container) for index, container in enumerate(CONTAINERS) if index
]


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def suites():
    """The suites, one episode of two steps for every simulation."""
    found = []
    for name in SUITES:
        suite = find_suite(name)
        simulations = {
            key: each.model_copy(
                update={"num_episodes": 1, "env_overrides": {**each.env_overrides, "max_steps": 2}}
            )
            for key, each in suite.simulations.items()
        }
        found.append(suite.model_copy(update={"simulations": simulations}))
    return found


def original_log_probs(module, known, steps):
    """What the class that made the file says of a few steps, one after the other."""
    state = {"lstm_h": None, "lstm_c": None}
    found = []
    for tokens in steps:
        shown = dense(tokens, len(known.feature_names)) if is_grid(module, known) else tokens
        with torch.no_grad():
            logits, value = module.forward_eval(shown, state)
        if not isinstance(logits, list | tuple):  # PufferLib's generic policy says both heads in one
            logits = logits.split([7, 9], dim=-1)
        found.append((puffer.joined(logits, known.action_names), value.flatten()))
    return found


def is_grid(module, known):
    encoder = getattr(getattr(module, "policy", module), "encoder", None)
    return encoder is not None and encoder[0].in_features == 121 * len(known.feature_names)


def dense(observations, num_channels):
    grid = torch.zeros(len(observations), 11, 11, num_channels, dtype=torch.uint8)
    for agent, tokens in enumerate(observations.tolist()):
        for location, feature, value in tokens:
            if location != 255:
                grid[agent, location >> 4, location & 15, feature] = value
    return grid


def filled(tokens):
    return torch.nn.functional.pad(tokens, (0, 0, 0, 200 - tokens.shape[1]), value=255)


@pytest.mark.parametrize(("era", "container"), PAIRS)
def test_a_held_out_file_keeps_its_numbers_and_plays_every_suite(era, container, suites):
    torch.manual_seed(7)
    make, known = ERAS[era]
    original = make()
    name, write = CONTAINERS[container]
    write(original, name)
    is_pickled = container == "pickled module"
    policy = load_policy(name, trust=Trust(allow_pickle=is_pickled))
    interface = interface_of(build(find_environment("laser_tag")))
    assert isinstance(interface, EnvironmentInterface)

    adapted = policy.fit(interface)[0].eval()
    assert isinstance(adapted, Compat2025)
    steps = [filled(puffer.tokens_2025(NUM_AGENTS, len(known.feature_names), seed=s)) for s in range(3)]
    state = adapted.policy.initial_state(NUM_AGENTS, "cpu")
    for tokens, (log_probs, values) in zip(steps, original_log_probs(original, known, steps), strict=True):
        dones = torch.zeros(NUM_AGENTS, dtype=torch.bool)
        with torch.no_grad():
            td = adapted.policy(TensorDict({"env_obs": tokens, "dones": dones}, [NUM_AGENTS]), state)
        torch.testing.assert_close(td["full_log_probs"], log_probs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(td["values"], values, atol=1e-5, rtol=1e-5)

    loaded = policy.module.state_dict()
    assert loaded.keys() == original.state_dict().keys()
    assert all(torch.equal(loaded[key], part) for key, part in original.state_dict().items())

    for suite in suites:
        result = play_suite(suite, policy_source(policy, torch.device("cpu"), name), seed=1)
        assert [len(simulation.episodes) for simulation in result.simulations] == [1] * len(suite.simulations)
        assert all(simulation.episodes[0].num_steps == 2 for simulation in result.simulations)
