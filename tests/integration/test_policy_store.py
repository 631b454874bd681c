"""The policy store: what is saved comes back whole, records share nothing, selectors choose."""

import json
import logging

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.api import Agent, Environment, PolicyMetadata, PolicyStore, TrainerConfig, register_policy
from metta_cli.artifacts.checkpoints import read_checkpoint
from metta_cli.config.layers import load_config
from metta_cli.errors import ConfigError, NotFoundError, StorageError, UsageError
from metta_cli.policies.registry import _registered
from metta_cli.runs.evaluate import evaluate
from metta_cli.runs.inspection import inspect_policy

SMALL = {"agent": {"hidden_size": 16, "num_layers": 1}}


@pytest.fixture(scope="module")
def env():
    with Environment(num_agents=2, width=6, height=6) as environment:
        yield environment


@pytest.fixture
def store(tmp_path):
    return store_in(tmp_path, "walker")


def store_in(data_dir, run, **settings):
    checkpoint_dir = data_dir / run / "checkpoints"
    return PolicyStore(
        {
            "device": "cpu",
            "data_dir": str(data_dir),
            "trainer": {"checkpoint": {"checkpoint_dir": str(checkpoint_dir)}},
            **settings,
        },
        wandb_run=None,
    )


def save(store, env, epoch, **metadata):
    torch.manual_seed(epoch)
    record = store.create_empty_policy_record(store.make_model_name(epoch))
    record.metadata = {"agent_step": epoch * 100, "epoch": epoch, **metadata}
    record.policy = Agent(env, SMALL)
    return store.save(record)


def weights(agent):
    return agent.policy.state_dict()


def act(agent, env):
    torch.manual_seed(0)
    observations = torch.from_numpy(env.observations.copy())
    dones = torch.ones(len(observations), dtype=torch.bool)
    with torch.no_grad():
        return agent(TensorDict({"env_obs": observations, "dones": dones}, [len(dones)]))["full_log_probs"]


def test_what_was_saved_comes_back_with_all_its_metadata(store, env):
    record = store.create_empty_policy_record(store.make_model_name(7))
    agent = Agent(env, SMALL)
    record.metadata = {
        "agent_step": 1000,
        "epoch": 7,
        "score": 0.95,
        "note": "mine",
        "curve": [1, 2.5, None],
        "nested": {"numpy": torch.tensor(0.5)},
    }
    record.policy = agent
    saved = store.save(record)
    loaded = store.policy_record(saved.file_path)
    for found in (saved, loaded, store.load_from_uri(saved.uri)):
        assert found.run_name == "walker:v7"
        assert (found.metadata.agent_step, found.metadata.epoch, found.metadata.score) == (1000, 7, 0.95)
        assert found.metadata["note"] == "mine"
        assert found.metadata["curve"] == [1, 2.5, None]
        assert found.metadata["nested"] == {"numpy": 0.5}
        assert (found.metadata.generation, found.metadata.train_time) == (0, 0.0)
    assert torch.equal(act(loaded.policy, env), act(agent, env))


def test_metta_eval_and_metta_inspect_take_it(store, env, tmp_path):
    save(store, env, 3, score=0.5)
    resolved = load_config(options={"data_dir": str(tmp_path)})
    result = evaluate(resolved, uri="walker", environment="navigation/simple", episodes=1, baselines=False)
    assert result.average_simulation_score().mean >= 0
    shown = inspect_policy("walker:v3", data_dir=tmp_path)
    assert shown["provenance"]["agent_steps"] == 300
    assert shown["provenance"]["environment"] == env.spec.name


def test_two_loads_never_share_a_module(store, env):
    uri = save(store, env, 1).uri
    first, second = store.policy_record(uri), store.policy_record(uri)
    assert first.policy is first.policy
    before = act(second.policy, env)
    with torch.no_grad():
        for parameter in first.policy.parameters():
            parameter.zero_()
    assert torch.equal(act(second.policy, env), before)
    assert torch.equal(act(store.policy_record(uri).policy, env), before)


def test_the_cache_holds_so_many_checkpoints_and_drops_the_longest_unused(env, tmp_path, monkeypatch):
    store = store_in(tmp_path, "walker", policy_cache_size=2)
    uris = [save(store, env, epoch).uri for epoch in (1, 2, 3)]
    read = []
    monkeypatch.setattr(
        "metta_cli.runs.policy_store.read_checkpoint",
        lambda path: read.append(path.name) or read_checkpoint(path),
    )
    for number in (0, 1, 0, 2, 0, 1):
        store.load_agent(uris[number])
    assert read == ["walker:v1", "walker:v2", "walker:v3", "walker:v2"]


def test_another_policy_in_the_same_place_is_not_taken_from_the_cache(store, env, tmp_path):
    record = save(store, env, 1)
    old = act(store.load_agent(record.uri), env)
    other = save(store_in(tmp_path / "elsewhere", "walker"), env, 2)
    for path in record.file_path.iterdir():
        path.write_bytes((other.file_path / path.name).read_bytes())
    assert not torch.equal(act(store.load_agent(record.uri), env), old)


def test_selectors_choose_among_the_checkpoints_of_a_run(store, env):
    for epoch, score in ((1, 0.3), (2, 0.9), (10, 0.5)):
        save(store, env, epoch, score=score, scores={"eval_memory/score": 1 - score})
    run = store.checkpoint_dir.parent

    def names(*arguments, **options):
        return [
            record.run_name.removeprefix("walker:")
            for record in store.policy_records(run, *arguments, **options)
        ]

    assert names() == ["v10"]
    assert names("latest", n=2) == ["v10", "v2"]
    assert names("top") == ["v2"]
    assert names("top", n=9) == ["v2", "v10", "v1"]
    assert names("top", metric="memory") == ["v1"]
    assert names("top", metric="epoch") == ["v10"]
    assert names("all") == ["v1", "v2", "v10"]
    assert sorted(names("rand", n=3)) == ["v1", "v10", "v2"]
    assert {names("rand", seed=seed)[0] for seed in range(20)} == {"v1", "v2", "v10"}
    assert names("rand", seed=5) == names("rand", seed=5)
    assert names("all", filters={"epoch": [1, 2]}) == ["v1", "v2"]
    assert names("all", filters={"score": {"min": 0.4}}) == ["v2", "v10"]
    assert names("all", filters={"agent_step": 1000}) == ["v10"]


def test_selectors_look_into_all_runs_of_a_data_directory(env, tmp_path):
    late = [save(store_in(tmp_path, "zebra"), env, epoch, score=0.1) for epoch in (1, 50)]
    newest = save(store_in(tmp_path, "aardvark"), env, 2, score=0.7)
    store = PolicyStore({"data_dir": str(tmp_path)})
    assert len(store.policy_records(tmp_path, "all")) == 3
    assert store.policy_record(tmp_path, "latest").uri == newest.uri
    assert store.policy_record(tmp_path, "top").uri == newest.uri
    assert store.policy_record("zebra").uri == late[1].uri


def test_a_metric_that_few_have_is_said_and_one_that_none_has_is_refused(store, env, caplog):
    save(store, env, 1, score=0.5)
    save(store, env, 2)
    run = store.checkpoint_dir.parent
    with caplog.at_level(logging.WARNING):
        assert store.policy_record(run, "top").metadata.epoch == 1
    assert "1 of 2 policies have no metric 'score'" in caplog.text
    with pytest.raises(NotFoundError, match=r"has the metric 'elo'.*score"):
        store.policy_record(run, "top", metric="elo")


def test_what_makes_no_sense_is_refused(store, env, tmp_path):
    save(store, env, 1)
    run = store.checkpoint_dir.parent
    with pytest.raises(UsageError, match="no selector 'best'"):
        store.policy_record(run, "best")
    with pytest.raises(NotFoundError, match="none of 1 policies has"):
        store.policy_record(run, filters={"epoch": 99})
    with pytest.raises(NotFoundError, match="nowhere"):
        store.policy_record("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no checkpoint"):
        store.policy_record(tmp_path / "empty")
    with pytest.raises(UsageError, match="no policy yet"):
        _ = store.create_empty_policy_record("x").policy


def test_saving_refuses_what_it_could_not_give_back(store, env):
    record = store.create_empty_policy_record(store.make_model_name(4))
    record.policy = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="Linear cannot be saved"):
        store.save(record)
    record.policy = Agent(env, SMALL)
    record.metadata = {"epoch": 5}
    with pytest.raises(UsageError, match="has metadata of epoch 5"):
        store.save(record)
    record.metadata = {"epoch": 4, "what": object()}
    with pytest.raises(ConfigError, match="'what' is a object"):
        store.save(record)
    record.metadata = {"epoch": 4}
    store.save(record)
    store.save(record)
    record.metadata["note"] = "later"
    with pytest.raises(StorageError, match="other metadata"):
        store.save(record)
    record.policy = Agent(env, SMALL)
    with pytest.raises(StorageError, match="other weights"):
        store.save(record)
    with pytest.raises(ConfigError, match="does not know where"):
        PolicyStore().save(record)


def test_a_record_of_any_name_becomes_a_run_of_that_name(store, env):
    record = store.create_empty_policy_record("my best one!")
    record.policy = Agent(env, SMALL)
    record.metadata = {"epoch": 2}
    assert store.save(record).run_name == "my_best_one_:v2"


def test_a_loaded_record_can_be_saved_under_another_name(store, env):
    original = store.load_from_uri(save(store, env, 1, score=0.5, note="keep").uri)
    copy = store.create_empty_policy_record("copy:v1")
    copy.metadata, copy.policy = original.metadata, original.policy
    saved = store.policy_record(store.save(copy).uri)
    assert (saved.metadata.note, saved.metadata.score) == ("keep", 0.5)
    assert torch.equal(act(saved.policy, env), act(original.policy, env))


def test_an_architecture_of_this_program_is_saved_once_it_is_known_by_name(store, env, monkeypatch):
    from metta_plugins.policies.fast import Fast

    class Mine(Fast):
        pass

    monkeypatch.setitem(_registered, "mine", Mine)
    register_policy("mine", Mine)
    record = store.create_empty_policy_record("mine:v1")
    record.metadata = {"epoch": 1}
    record.policy = Agent(env, {"policy": "mine", **SMALL})
    assert isinstance(record.policy, Mine)
    assert isinstance(store.policy_record(store.save(record).uri).policy.policy, Mine)


def test_numbers_that_an_agent_learned_for_features_are_kept(store, env):
    record = store.create_empty_policy_record("renamed:v1")
    record.metadata = {"epoch": 1}
    agent = Agent(env, SMALL)
    agent.initialize_to_environment(env.interface)
    agent.original_feature_mapping["gem"] = 77
    record.policy = agent
    loaded = store.policy_record(store.save(record).uri)
    assert loaded.metadata["original_feature_mapping"]["gem"] == 77
    assert loaded.policy.policy.original_feature_mapping["gem"] == 77


def test_the_store_takes_an_omegaconf_mapping(env, tmp_path):
    omegaconf = pytest.importorskip("omegaconf", reason="OmegaConf is not installed")
    config = omegaconf.DictConfig(
        {
            "device": "cpu",
            "policy_cache_size": 3,
            "where": str(tmp_path / "hydra" / "checkpoints"),
            "trainer": {"checkpoint": {"checkpoint_dir": "${where}"}},
        }
    )
    store = PolicyStore(config, wandb_run=None)
    assert (store.policy_cache_size, store.run) == (3, "hydra")
    agent = Agent(
        env, omegaconf.DictConfig({"device": "cpu", "agent": {"hidden_size": 16, "clip_range": 0.2}})
    )
    record = store.create_empty_policy_record(store.make_model_name(1))
    record.metadata = omegaconf.DictConfig({"epoch": 1, "list": [1, {"a": 2}]})
    record.policy = agent
    saved = store.save(record)
    assert saved.metadata["list"] == [1, {"a": 2}]
    json.dumps(saved.metadata)


def test_required_metadata_is_always_there():
    metadata = PolicyMetadata({"epoch": 3}, extra=1)
    assert dict(metadata) == {"agent_step": 0, "epoch": 3, "generation": 0, "train_time": 0.0, "extra": 1}
    metadata.epoch = 4
    assert metadata["epoch"] == 4
    assert metadata.pop("extra") == 1
    for remove in (lambda: metadata.pop("epoch"), lambda: metadata.__delitem__("agent_step")):
        with pytest.raises(KeyError, match="belongs to all metadata"):
            remove()
    with pytest.raises(AttributeError, match="has no 'colour'"):
        _ = metadata.colour


def test_a_metric_is_found_by_every_name_that_it_is_known_by():
    metadata = PolicyMetadata(
        {
            "epoch": 3,
            "flag": True,
            "scores": {
                "avg_simulation_score": 0.4,
                "eval_navigation/score": 0.6,
                "eval_navigation/terrain_small": 0.7,
                "broken": float("nan"),
            },
            "evals": {"category_scores": {"memory": 0.1}, "simulation_scores": {"memory/easy": 0.2}},
        }
    )
    expected = {
        "epoch": 3,
        "score": 0.4,
        "navigation": 0.6,
        "navigation/terrain_small": 0.7,
        "eval_navigation/score": 0.6,
        "memory": 0.1,
        "memory/easy": 0.2,
        "flag": None,
        "broken": None,
        "none": None,
    }
    assert {name: metadata.metric(name) for name in expected} == expected


def test_configuration_classes_take_omegaconf_mappings_all_the_way_down():
    omegaconf = pytest.importorskip("omegaconf", reason="OmegaConf is not installed")
    config = omegaconf.DictConfig(
        {
            "batch_size": 512,
            "minibatch_size": 256,
            "ppo": {"gamma": 0.5},
            "simulation": {"simulations": ["a", "b"]},
        }
    )
    for made in (TrainerConfig(**config), TrainerConfig.model_validate(config)):
        assert (made.batch_size, made.ppo.gamma, made.simulation.simulations) == (512, 0.5, ["a", "b"])


def test_a_wrapped_agent_is_saved_without_its_wrapper(store, env):
    class Compiled(nn.Module):
        """As `torch.compile` wraps a module."""

        def __init__(self, module):
            super().__init__()
            self._orig_mod = module

    agent = Agent(env, SMALL)
    record = store.create_empty_policy_record("walker:v1")
    record.metadata, record.policy = {"epoch": 1}, Compiled(agent)
    assert torch.equal(act(store.policy_record(store.save(record).uri).policy, env), act(agent, env))


def test_a_loaded_agent_is_used_like_the_one_that_was_saved(store, env):
    record = store.create_empty_policy_record("walker:v1")
    agent = Agent(env, {"agent": {"hidden_size": 16, "num_layers": 1, "clip_range": 0.01}})
    record.metadata, record.policy = {"epoch": 1}, agent
    loaded = store.policy_record(store.save(record).uri).policy
    assert loaded.state_dict().keys() == agent.state_dict().keys()
    agent.load_state_dict(loaded.state_dict())
    assert (loaded.hidden_size, loaded.clip_range) == (16, 0.01)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.fill_(5.0)
    loaded.clip_weights()
    assert loaded.policy.policy.fc1.weight.max().item() == pytest.approx(0.01)
    loaded.load_state_dict(agent.state_dict())
    assert torch.equal(act(loaded, env), act(agent, env))
    with pytest.raises(AttributeError, match="colour"):
        _ = loaded.colour
