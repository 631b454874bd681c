"""Policies of MettaGrid's own interface as opponents."""

import json
import random
import sys

import numpy as np
import pytest
import torch

from metta_cli.config.catalogue import find_environment
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.environments.vector import VectorEnvironment
from metta_cli.errors import CheckpointError, PluginError
from metta_cli.populations.players import Turn
from metta_cli.runs.mettagrid_opponent import environment_info, is_mettagrid_policy, mettagrid_opponent
from metta_cli.runs.mettagrid_policy import interface_from

CPU = torch.device("cpu")
SPEC = find_environment("laser_tag_small")
CODE = '''
from mettagrid.policy.policy import AgentPolicy, MultiAgentPolicy
from mettagrid.simulator import Action

class Counter(AgentPolicy):
    """Stands still in even steps and goes north in odd ones."""
    def __init__(self, info):
        super().__init__(info)
        self.count = 0
    def reset(self, simulation=None):
        self.count = 0
    def step(self, obs):
        assert all(token.feature.name for token in obs.tokens)
        self.count += 1
        return Action(name="move_north" if self.count % 2 else "noop")

class Counters(MultiAgentPolicy):
    def agent_policy(self, agent_id):
        return Counter(self.policy_env_info)
'''


@pytest.fixture
def interface():
    return interface_of(build(SPEC))


@pytest.fixture
def observations():
    with VectorEnvironment(SPEC, num_environments=2, seed=1) as environment:
        environment.reset()
        return environment.observations.copy()


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "counting_bundle.py").write_text(CODE)
    (tmp_path / "policy_spec.json").write_text(json.dumps({"class_path": "counting_bundle.Counters"}))
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("counting_bundle", None)


def turn(observations, rows, *, starts=False, noise=0.25):
    return Turn(observations[rows], np.full(len(rows), starts), np.full(len(rows), noise))


def test_our_description_of_an_environment_survives_the_way_there_and_back(interface):
    assert interface_from(environment_info(interface)) == interface


def test_a_policy_of_mettagrid_acts_by_the_noise_of_the_turn_alone(interface, observations):
    opponent = mettagrid_opponent("mettagrid://random", CPU, allow_code=False).create(interface, 8)
    rows = np.arange(8)
    random.seed(1)
    before = random.getstate()
    first = opponent.act(turn(observations, rows), rows)
    again = opponent.act(turn(observations, rows), rows)
    other = opponent.act(turn(observations, rows, noise=0.75), rows)
    assert random.getstate() == before
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_bundle_acts_with_a_memory_for_every_row(interface, observations, bundle):
    opponent = mettagrid_opponent(str(bundle), CPU, allow_code=True).create(interface, 8)
    north, noop = (interface.action_names.index(name) for name in ("move_north", "noop"))
    one, both = np.array([5]), np.array([1, 5])
    assert opponent.act(turn(observations, one, starts=True), one).tolist() == [north]
    assert opponent.act(turn(observations, both), both).tolist() == [north, noop]
    assert opponent.act(turn(observations, both, starts=True), both).tolist() == [north, north]


@pytest.mark.parametrize("uri", ["mettagrid://os.path.join", "bundle"])
def test_code_of_others_needs_trust(uri, bundle):
    with pytest.raises(CheckpointError, match=r"runs code.*--allow-pickle"):
        mettagrid_opponent(str(bundle) if uri == "bundle" else uri, CPU, allow_code=False)


def test_a_class_that_is_no_policy_is_named(interface):
    source = mettagrid_opponent("mettagrid://mettagrid.policy.Nothing", CPU, allow_code=False)
    with pytest.raises(PluginError, match=r"mettagrid.policy.Nothing cannot be made"):
        source.create(interface, 1)


def test_a_run_directory_is_no_bundle(tmp_path, bundle):
    (tmp_path / "run").mkdir()
    assert not is_mettagrid_policy(str(tmp_path / "run"))
    assert is_mettagrid_policy(str(bundle))
