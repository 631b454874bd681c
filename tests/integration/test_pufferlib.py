"""Code that was written for PufferLib's native environments takes the vectorized environment as it is."""

import numpy as np
import pufferlib
import pufferlib.models
import pufferlib.pytorch
import pufferlib.vector
import pytest
import torch

from metta_cli.config.environment import EnvironmentSpec
from metta_cli.environments.vector import VectorEnvironment

ROOM = EnvironmentSpec(name="room", builder="mean_distance", args={"max_steps": 9, "num_agents": 2})


@pytest.fixture(params=[0, 2], ids=["in process", "2 workers"])
def environment(request):
    with VectorEnvironment(ROOM, num_environments=3, num_workers=request.param, seed=5) as environment:
        yield environment


class Trainer:
    """The rollout of `pufferlib.pufferl.PuffeRL`: the same calls on the environment in the same order.

    (`pufferl` itself cannot be imported where pufferlib's compiled kernels do not match torch.)
    """

    def __init__(self, vecenv):
        vecenv.async_reset(42)
        self.vecenv = vecenv
        agents = vecenv.agents_per_batch
        policy = pufferlib.models.Default(vecenv.driver_env, hidden_size=32)
        self.policy = pufferlib.models.LSTMWrapper(vecenv.driver_env, policy, input_size=32, hidden_size=32)
        self.state = {"lstm_h": torch.zeros(agents, 32), "lstm_c": torch.zeros(agents, 32)}
        action_type = pufferlib.pytorch.numpy_to_torch_dtype_dict[vecenv.single_action_space.dtype]
        self.actions = torch.zeros(agents, *vecenv.single_action_space.shape, dtype=action_type)
        self.statistics = {}

    def evaluate(self, num_steps):
        global_step = 0
        for _ in range(num_steps):
            o, r, d, t, _, infos, env_id, mask = self.vecenv.recv()
            env_id = slice(env_id[0], env_id[-1] + 1)
            global_step += int(mask.sum())
            done = d + t
            assert done.shape == r.shape == (self.vecenv.num_agents,)
            with torch.no_grad():
                logits, _ = self.policy.forward_eval(torch.as_tensor(o), self.state)
                self.actions[env_id], *_ = pufferlib.pytorch.sample_logits(logits)
            for info in infos:
                for name, value in pufferlib.unroll_nested_dict(info):
                    self.statistics.setdefault(name, []).append(value)
            self.vecenv.send(self.actions.cpu().numpy())
        return global_step


def test_the_rollout_of_pufferls_trainer_runs_and_gets_its_statistics(environment):
    trainer = Trainer(environment)
    assert trainer.evaluate(20) == 20 * environment.num_agents
    assert trainer.statistics["episode_length"] == [9] * 6
    assert len(trainer.statistics["agent/cell.visited"]) == 6


def test_pufferlibs_vector_functions_drive_it(environment):
    observations, infos = pufferlib.vector.reset(environment, seed=5)
    assert infos == []
    first = observations.copy()
    rng = np.random.default_rng(0)
    for _ in range(9):
        actions = rng.integers(0, environment.single_action_space.n, environment.num_agents)
        assert environment.action_space.contains(actions)
        observations, rewards, terminals, truncations, infos = pufferlib.vector.step(environment, actions)
        assert environment.observation_space.contains(observations)
        assert rewards.dtype == np.float32
    assert truncations.all()
    assert not terminals.any()
    assert len(infos) == 3
    np.testing.assert_array_equal(environment.reset(seed=5)[0], first)


def test_every_public_name_of_a_pufferenv_is_there(environment):
    class Plain(pufferlib.PufferEnv):
        single_observation_space = environment.single_observation_space
        single_action_space = environment.single_action_space
        num_agents = environment.num_agents

    native = Plain()
    names = {name for name in dir(native) if not name.startswith("_")}
    assert {name for name in names if not hasattr(environment, name)} == set()
    for name in ("observations", "rewards", "terminals", "truncations", "masks", "actions", "agent_ids"):
        ours, theirs = getattr(environment, name), getattr(native, name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
    for name in ("observation_space", "action_space", "done", "emulated", "agent_per_batch", "metadata"):
        assert getattr(environment, name) == getattr(native, name), name
    assert environment.driver_env is environment


def test_a_subclass_of_both_passes_pufferlibs_factory():
    class Native(VectorEnvironment, pufferlib.PufferEnv):
        """Declares what the factory asks for by `isinstance`; all of it is inherited."""

    vecenv = pufferlib.vector.make(
        Native, env_args=[ROOM], env_kwargs={"num_environments": 2}, backend=pufferlib.PufferEnv
    )
    with vecenv:
        assert isinstance(vecenv, Native)
        pufferlib.vector.reset(vecenv, seed=1)
        pufferlib.vector.step(vecenv, np.zeros(vecenv.num_agents, int))
