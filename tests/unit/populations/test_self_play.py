"""Snapshots of the learner: when they are taken, which make room, and which weights stay on the disk."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from metta_cli.artifacts.checkpoints import CheckpointManifest, list_checkpoints, save_checkpoint
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.config.league import LeagueConfig
from metta_cli.errors import CheckpointError, NotFoundError
from metta_cli.populations.league import League
from metta_cli.populations.matchmaking import Member
from metta_cli.populations.opponents import MatchResult, OpponentPool
from metta_cli.populations.self_play import SelfPlay, SnapshotStore, most_crowded

CPU = torch.device("cpu")


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        td["full_log_probs"] = self.bias.log_softmax(-1).expand(len(td), 3)
        return td


@pytest.fixture
def manifest():
    interface = EnvironmentInterface(
        feature_names=("type",),
        feature_scales=(1.0,),
        tag_names=(),
        action_names=("noop", "a", "b"),
        num_tokens=4,
        observation_height=3,
        observation_width=3,
        agents_per_environment=2,
    )
    return CheckpointManifest(
        run="run",
        epoch=0,
        agent_steps=0,
        architecture={"name": "tiny"},
        passport=interface,
        environment=EnvironmentSpec(name="x", builder="laser_tag"),
    )


@pytest.fixture
def session(tmp_path, manifest):
    """Return a function that begins a session of a run, as a new process would."""

    def begin(learner, state=None, **self_play):
        league = League(LeagueConfig(mode="self_play", self_play=self_play), [])
        if state is not None:
            league.load_state_dict(state)
        store = SnapshotStore(tmp_path / "league", tmp_path / "checkpoints", manifest)
        session = SelfPlay(league, OpponentPool(), store, 4, CPU)
        session.start(learner)
        return session

    return begin


def learn(learner, value):
    with torch.no_grad():
        learner.bias.fill_(0.0)
        learner.bias[1] = value


def weight(session, name):
    return session.pool[name].policy.bias[1].item()


def names(session):
    return session.league.ids


def on_disk(session):
    return [f"v{info.epoch}" for info in list_checkpoints(session.store.directory)]


def epochs(session, learner, first, last, playing=()):
    for epoch in range(first, last + 1):
        learn(learner, epoch)
        session.end_epoch(learner, epoch, 100 * epoch, playing)


def test_the_first_snapshot_is_the_learner_before_it_learns(session):
    learner = Tiny()
    learn(learner, 7)
    started = session(learner)
    assert names(started) == ["v0"]
    learn(learner, 8)
    assert weight(started, "v0") == 7


def test_snapshots_are_taken_every_so_many_agent_steps(session):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=250)
    epochs(started, learner, 1, 7)
    assert names(started) == ["v0", "v3", "v6"]
    assert [weight(started, name) for name in names(started)] == [0, 3, 6]
    assert on_disk(started) == ["v0", "v3", "v6"]
    assert [member.agent_steps for member in started.league.members] == [0, 300, 600]


def test_a_gate_takes_a_snapshot_early(session):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=None, win_rate_gate=0.6, gate_matches=5)
    epochs(started, learner, 1, 2)
    assert names(started) == ["v0"]
    for learner_return in (1, 1, 0, 1, 1):
        started.league.record(MatchResult("v0", learner_return, 0.5))
    epochs(started, learner, 3, 5)
    assert names(started) == ["v0", "v3"]


def test_the_live_copy_is_the_learner_at_the_start_of_the_epoch(session):
    learner = Tiny()
    started = session(learner)
    learn(learner, 4)
    assert weight(started, "live") == 0
    started.begin_epoch(learner)
    learn(learner, 5)
    assert weight(started, "live") == 4
    assert not started.pool["live"].policy.bias.requires_grad


def test_the_most_crowded_snapshot_makes_room():
    def at(*agent_steps):
        return [Member(f"at {steps}", "snapshot", "", agent_steps=steps) for steps in agent_steps]

    assert most_crowded(at(0, 100, 400, 500, 600)).id == "at 500"
    assert most_crowded(at(0, 100, 200, 300)).id == "at 100"
    assert most_crowded(at(0, 1, 100)).id == "at 1"


def test_there_are_never_more_snapshots_than_asked_for_and_the_first_stays(session):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=100, max_snapshots=4)
    epochs(started, learner, 1, 20)
    assert len(names(started)) == 4
    assert (names(started)[0], names(started)[-1]) == ("v0", "v20")
    assert on_disk(started) == names(started)
    assert set(started.pool.ids()) == {*names(started), "live"}


def test_a_smaller_league_lets_go_of_as_many_as_it_must(session):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=100, max_snapshots=6)
    epochs(started, learner, 1, 5)
    resumed = session(
        learner, started.league.state_dict(), snapshot_interval_agent_steps=100, max_snapshots=3
    )
    epochs(resumed, learner, 6, 6)
    assert len(names(resumed)) == 3


def test_a_snapshot_that_makes_room_plays_its_episodes_to_the_end(session):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=100, max_snapshots=2)
    epochs(started, learner, 1, 2, playing={"v1"})
    assert names(started) == ["v0", "v2"]
    assert weight(started, "v1") == 1
    started.end_epoch(learner, 3, 201, playing={"live"})
    assert "v1" not in started.pool
    assert on_disk(started) == ["v0", "v2"]


def checkpoint(session, manifest, epoch):
    save_checkpoint(session.store.checkpoints, manifest.model_copy(update={"epoch": epoch}), {})
    return session.league.state_dict()


def test_weights_that_a_checkpoint_counts_on_stay_on_the_disk(session, manifest):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=100, max_snapshots=2)
    epochs(started, learner, 1, 1)
    state = checkpoint(started, manifest, 1)
    epochs(started, learner, 2, 3)
    assert names(started) == ["v0", "v3"]
    assert on_disk(started) == ["v0", "v1", "v2", "v3"]  # v1 and v2 made room after the checkpoint

    resumed = session(learner, state, snapshot_interval_agent_steps=100, max_snapshots=2)
    assert names(resumed) == ["v0", "v1"]
    assert [weight(resumed, name) for name in names(resumed)] == [0, 1]
    assert on_disk(resumed) == ["v0", "v1"]  # what no checkpoint knows is gone


def test_weights_go_once_no_checkpoint_counts_on_them(session, manifest):
    learner = Tiny()
    started = session(learner, snapshot_interval_agent_steps=100, max_snapshots=2)
    checkpoint(started, manifest, 0)
    epochs(started, learner, 1, 2)
    assert on_disk(started) == ["v0", "v1", "v2"]
    state = checkpoint(started, manifest, 2)
    resumed = session(learner, state, snapshot_interval_agent_steps=None, win_rate_gate=1.0)
    assert on_disk(resumed) == ["v0", "v1", "v2"]
    assert "v1" not in resumed.pool
    (started.store.checkpoints / "run:v0").rename(started.store.checkpoints / ".old")
    resumed.end_epoch(learner, 3, 300, playing=())
    assert on_disk(resumed) == ["v0", "v2"]
    assert resumed.league.retired == {}


def test_a_run_that_starts_over_deletes_the_snapshots_of_the_one_that_was_lost(session):
    learner = Tiny()
    epochs(session(learner, snapshot_interval_agent_steps=100), learner, 1, 3)
    learn(learner, 9)
    again = session(learner)
    assert on_disk(again) == ["v0"]
    assert weight(again, "v0") == 9


@pytest.mark.parametrize(("damage", "error"), [("gone", NotFoundError), ("changed", CheckpointError)])
def test_a_snapshot_that_cannot_be_read_stops_the_run(session, damage, error):
    learner = Tiny()
    started = session(learner)
    state, path = started.league.state_dict(), started.store.path("v0")
    if damage == "gone":
        path.rename(path.with_name("elsewhere"))
    else:
        (path / "weights.safetensors").write_bytes(b"?")
    with pytest.raises(error, match="run:v0"):
        session(learner, state)


def test_a_snapshot_acts_as_the_learner_did(session):
    learner = Tiny()
    learn(learner, 50)
    started = session(learner)
    td = TensorDict({"env_obs": torch.zeros(2, 1, 3)}, batch_size=[2])
    assert started.pool["v0"].policy(td)["full_log_probs"].argmax(-1).tolist() == [1, 1]
