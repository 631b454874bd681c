"""`trainer.initial_policy`: which of several checkpoints a run begins with."""

import logging

import pytest
import torch

from metta_cli.api import Agent, Environment, PolicyStore
from metta_cli.artifacts.checkpoints import read_checkpoint
from metta_cli.config.layers import load_config
from metta_cli.config.trainer import InitialPolicyConfig
from metta_cli.errors import NotFoundError, UsageError
from metta_cli.runs.selection import initial_policy_uri
from metta_cli.runs.train import train

SCORES = {1: 0.3, 2: 0.9, 3: 0.8, 10: 0.5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("train_dir")
    store = PolicyStore({"trainer": {"checkpoint": {"checkpoint_dir": path / "past" / "checkpoints"}}})
    with Environment(env_config="navigation/simple") as env:
        for epoch, score in SCORES.items():
            torch.manual_seed(epoch)
            record = store.create_empty_policy_record(store.make_model_name(epoch))
            record.metadata = {"epoch": epoch, "score": score, "scores": {"eval_memory/score": 1 - score}}
            record.policy = Agent(env, {"agent": {"hidden_size": 16}})
            store.save(record)
    return path


def chosen(data_dir, seed=0, **settings):
    uri = initial_policy_uri(InitialPolicyConfig(uri="past", **settings), data_dir, seed)
    return uri.rpartition("/")[2]


def test_the_best_is_chosen_by_the_metric(data_dir):
    assert chosen(data_dir, metric="score") == "past:v2"
    assert chosen(data_dir, metric="memory") == "past:v1"


def test_without_more_words_it_is_the_newest(data_dir):
    assert chosen(data_dir) == "past"
    assert chosen(data_dir, type="latest", metric="score") == "past"
    assert chosen(data_dir, type="latest", filters={"score": {"min": 0.7}}) == "past:v3"


def test_one_of_the_best_is_drawn_by_the_seed(data_dir):
    drawn = [chosen(data_dir, seed, metric="score", range=2) for seed in range(20)]
    assert set(drawn) == {"past:v2", "past:v3"}
    assert drawn == [chosen(data_dir, seed, metric="score", range=2) for seed in range(20)]


def test_filters_hold_before_the_metric(data_dir):
    assert chosen(data_dir, metric="score", filters={"epoch": [1, 10]}) == "past:v10"
    with pytest.raises(NotFoundError, match="none of 4 policies has"):
        chosen(data_dir, filters={"epoch": 99})
    with pytest.raises(NotFoundError, match="has the metric 'elo'"):
        chosen(data_dir, metric="elo")


def test_a_specific_one_is_taken_as_it_is_named(data_dir):
    config = InitialPolicyConfig(uri="past:v3", type="specific", metric="score")
    assert initial_policy_uri(config, data_dir, 0) == "past:v3"
    with pytest.raises(UsageError, match="nothing to filter"):
        initial_policy_uri(InitialPolicyConfig(uri="past:v3", filters={"epoch": 3}), data_dir, 0)


def test_training_begins_with_the_chosen_weights(data_dir, caplog):
    class Silence:
        start = update = close = lambda self, *_: None

    resolved = load_config(
        files=[],
        words=["env=navigation/simple", "hardware=local_debug", "run=next", "trainer.ppo.max_grad_norm=1e-9"],
        options={
            "data_dir": str(data_dir),
            "trainer.total_timesteps": 1024,
            "trainer.initial_policy.uri": "past",
            "trainer.initial_policy.metric": "score",
            "trainer.optimizer.learning_rate": 1e-9,
        },
    )
    with caplog.at_level(logging.INFO, logger="metta_cli"):
        result = train(resolved, resume=False, progress=Silence())
    assert "begins with past:v2, of 4 policies" in caplog.text
    now = read_checkpoint(result.checkpoint).weights
    before = read_checkpoint(data_dir / "past" / "checkpoints" / "past:v2").weights
    for name, weight in before.items():
        torch.testing.assert_close(now[name], weight, atol=1e-6, rtol=0)
