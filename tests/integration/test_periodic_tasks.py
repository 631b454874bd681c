"""What a run does every so many epochs, at its interval and nowhere else."""

import json

import pytest

from metta_cli.artifacts.checkpoints import list_checkpoints, read_manifest
from metta_cli.cli.main import main
from metta_cli.runs import evaluator
from metta_cli.runs.session import SCORE
from metta_cli.tracking.jsonl import read_metrics

WORDS = [
    "env=navigation/simple",
    "hardware=local_debug",
    "trainer.total_timesteps=6144",
    "trainer.checkpoint.checkpoint_interval=1",
    "trainer.checkpoint.wandb_checkpoint_interval=0",
    "evals=navigation_single",
    "evals.num_episodes=1",
]


def train(directory, *words):
    arguments = ["train", *WORDS, *words, "--run", "r", "--data-dir", str(directory), "--progress", "none"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    return directory / "r"


def epochs_with(run, prefix):
    records = read_metrics(run / "metrics.jsonl")
    return [record["epoch"] for record in records if any(name.startswith(prefix) for name in record)]


def test_monitors_and_replays_come_at_their_intervals(tmp_path):
    run = train(
        tmp_path,
        "trainer.simulation.evaluate_interval=3",
        "trainer.simulation.replay_interval=4",
        "trainer.grad_mean_variance_interval=2",
        "trainer.profiler.interval_epochs=5",
        "trainer.system_monitor_interval=5",
        "policy.args.analyze_weights_interval=3",
    )
    assert epochs_with(run, "gradients/") == [2, 4, 6]
    assert epochs_with(run, "weights/") == [3, 6]
    assert epochs_with(run, "system/memory_mb") == epochs_with(run, "memory/experience_mb") == [5]
    assert epochs_with(run, SCORE) == [3, 6]
    assert epochs_with(run, "time/evaluation_seconds") == [3, 6]
    assert epochs_with(run, "time/checkpoint_seconds") == [2, 3, 4, 5, 6]
    assert epochs_with(run, "time/replay_seconds") == [5]
    assert sorted(path.name for path in (run / "replays").iterdir()) == ["v4", "v6"]
    assert len(list((run / "replays/v4").glob("*.html"))) == 1
    traces = list((run / "profiles").iterdir())
    assert [trace.name for trace in traces] == ["epoch_5.json"]
    assert json.loads(traces[0].read_text())["traceEvents"]


def test_the_best_checkpoints_are_kept_beside_the_newest(tmp_path, monkeypatch):
    scores = iter([0.1, 0.9, 0.3, 0.9, 0.2, 0.0])
    monkeypatch.setattr(evaluator.Evaluator, "evaluate", lambda self, trainer: {SCORE: next(scores)})
    run = train(
        tmp_path,
        "trainer.simulation.evaluate_interval=1",
        "trainer.checkpoint.keep=1",
        "trainer.checkpoint.keep_best=2",
    )
    kept = {
        info.epoch: read_manifest(info.path).scores[SCORE] for info in list_checkpoints(run / "checkpoints")
    }
    assert kept == {2: 0.9, 4: 0.9, 6: 0.0}


def test_a_replay_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    run = train(
        tmp_path,
        "trainer.simulation.evaluate_interval=0",
        "trainer.simulation.replay_interval=2",
        f"trainer.simulation.replay_dir={in_the_way}/replays",
    )
    assert [info.epoch for info in list_checkpoints(run / "checkpoints")][-1] == 6
    assert capsys.readouterr().err.count("no more replays are written") == 1
