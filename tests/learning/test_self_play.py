"""Self-play on the real simulator: what has learned beats what has not, measured with an interval."""

import pytest

from metta_cli.config.layers import load_config
from metta_cli.populations.ratings import rating_difference
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.league_evaluation import evaluate_league
from metta_cli.runs.train import train

pytestmark = pytest.mark.slow

DUEL = {
    "env": "laser_tag_small",
    "env.args.agents_per_team": 1,
    "env.args.stations": 1,
    "env.args.max_steps": 40,
    "trainer.dual_policy": "self_play",
    "trainer.dual_policy.self_play.snapshot_interval_agent_steps": 60_000,
    "trainer.total_timesteps": 250_000,
    "trainer.batch_size": 4096,
    "trainer.minibatch_size": 1024,
    "trainer.bptt_horizon": 32,
    "trainer.checkpoint.checkpoint_interval": 10,
    "trainer.simulation.evaluate_interval": 1000,
    "device": "cpu",
}


class Silent:
    def start(self, total_agent_steps, run):
        pass

    def update(self, metrics):
        pass

    def close(self):
        pass


def test_the_newest_snapshot_beats_the_first(tmp_path):
    options = DUEL | {"run": "duel", "data_dir": str(tmp_path), "seed": 1}
    resolved = load_config(files=[], words=[], options=options, environ={})
    train(resolved, resume=True, progress=Silent())
    directory = RunDirectory(tmp_path, "duel")
    standings = evaluate_league(directory, episodes=1000, only=["v0", "v60"])
    ahead = rating_difference(standings.evaluated, ["v0", "v60"], "v0", "v60", "v0")
    assert ahead.low > 0
    record = standings.matrix()
    assert record.win_rates[1, 0] > 0.5
