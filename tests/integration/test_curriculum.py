"""Training in the tasks of a curriculum, from the command line."""

import csv
import json
import shutil

import pytest

from metta_cli.artifacts.checkpoints import latest_valid_checkpoint, list_checkpoints
from metta_cli.cli.main import main
from metta_cli.config.catalogue import find_curriculum, find_environment
from metta_cli.config.tasks import create_tasks
from metta_cli.environments.tasks import TaskSet
from metta_cli.tracking.jsonl import read_metrics

WORDS = [
    "hardware=local_debug",
    "trainer.total_timesteps=4096",
    "trainer.checkpoint.checkpoint_interval=1",
    "trainer.checkpoint.wandb_checkpoint_interval=0",
]
MINE = """\
algorithm: learning_progress
tasks:
  near: {env: navigation/simple, env_overrides: {size: 7, mean_distance: 4}}
  far: {env: navigation/simple}
buckets:
  altars: {range: [1, 8], bins: 2}
env_overrides: {max_steps: 20}
learning_progress: {sample_threshold: 3, num_active_tasks: 8}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/curriculum").mkdir(parents=True)
    (tmp_path / "configs/curriculum/mine.yaml").write_text(MINE)


def train(*words, run="r", data_dir="runs"):
    arguments = ["train", *WORDS, *words, "--run", run, "--data-dir", data_dir, "--progress", "none"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code or 0


def records(path):
    """Return what was logged, without what depends on the clock."""
    clock = ("time/", "timestamp", "steps_per_second", "cost")
    return [
        {name: value for name, value in record.items() if not name.startswith(clock)}
        for record in read_metrics(path / "metrics.jsonl")
    ]


def table(path):
    with (path / "curriculum.csv").open() as file:
        return {row["task"]: row for row in csv.DictReader(file)}


def test_a_run_draws_its_episodes_from_all_tasks_and_tells_of_it(tmp_path):
    assert train("curriculum=mine") == 0
    run = tmp_path / "runs/r"
    tasks = create_tasks(find_curriculum("mine"), find_environment("laser_tag"))
    rows = table(run)
    assert list(rows) == [task.name for task in tasks] == [
        "near;altars=1..4", "near;altars=5..8", "far;altars=1..4", "far;altars=5..8"
    ]  # fmt: skip
    assert all(int(row["completed"]) > 2 for row in rows.values())
    last = records(run)[-1]
    completed = {name: value for name, value in last.items() if name.startswith("curriculum/completed/")}
    assert completed.keys() == {"curriculum/completed/near", "curriculum/completed/far"}
    assert completed["curriculum/completed/far"] == sum(
        int(row["completed"]) for name, row in rows.items() if name.startswith("far")
    )
    assert last["episode/length_mean"] == 20
    assert 0 < last["curriculum/score_mean"] < 1

    checkpoint, _ = latest_valid_checkpoint(run / "checkpoints")
    assert checkpoint.manifest.passport == TaskSet(tasks).interface
    assert checkpoint.manifest.environment.name == "navigation/simple"
    assert checkpoint.trainer_state["callbacks"]["curriculum"]["names"] == list(rows)


def test_the_number_of_workers_changes_nothing(tmp_path):
    words = ["curriculum=mine", "trainer.total_timesteps=2048", "trainer.env_overrides.max_steps=9"]
    assert train(*words, "trainer.num_workers=0", run="alone") == 0
    assert train(*words, "trainer.num_workers=2", run="shared") == 0
    assert records(tmp_path / "runs/alone") == records(tmp_path / "runs/shared")
    assert records(tmp_path / "runs/alone")[-1]["episode/length_mean"] == 9  # overrides hold in every task


def test_a_run_goes_on_with_what_was_known(tmp_path):
    assert train("curriculum=mine", "trainer.total_timesteps=2048") == 0
    first = table(tmp_path / "runs/r")
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    assert train("curriculum=mine") == 0
    assert train("curriculum=mine", data_dir="copy") == 0
    assert records(tmp_path / "runs/r") == records(tmp_path / "copy/r")
    second = table(tmp_path / "runs/r")
    counts = [(int(first[name]["completed"]), int(second[name]["completed"])) for name in first]
    assert all(before <= after for before, after in counts)
    assert 0 < sum(before for before, _ in counts) < sum(after for _, after in counts) - 30


def test_tasks_are_evaluated_half_way_up_their_ranges(tmp_path):
    words = ["curriculum=mine", "trainer.simulation.evaluate_interval=4", "evals=navigation_single"]
    assert train(*words, "evals.num_episodes=1", "trainer.simulation.num_training_tasks=2") == 0
    names = {name for name in records(tmp_path / "runs/r")[-1] if name.startswith("eval_training_task/")}
    assert names >= {"eval_training_task/near;altars=5..8", "eval_training_task/far;altars=5..8"}
    results = json.loads((tmp_path / "runs/r/evals/v4/evaluation_results.json").read_text())
    assert "navigation/intermediate" in json.dumps(results)


def test_what_is_evaluated_can_leave_out_the_tasks(tmp_path):
    words = ["trainer.simulation.evaluate_interval=4", "evals=navigation_single", "evals.num_episodes=1"]
    assert train("curriculum=mine", *words, "trainer.simulation.num_training_tasks=0") == 0
    assert not [name for name in records(tmp_path / "runs/r")[-1] if "training_task" in name]


def test_overrides_hold_in_training_only(tmp_path):
    words = [
        "env=navigation/simple",
        "trainer.env_overrides.max_steps=7",
        "trainer.simulation.evaluate_interval=4",
    ]
    assert train(*words, "evals=navigation_single", "evals.num_episodes=1") == 0
    assert records(tmp_path / "runs/r")[-1]["episode/length_mean"] == 7
    checkpoint, _ = latest_valid_checkpoint(tmp_path / "runs/r/checkpoints")
    assert checkpoint.manifest.environment == find_environment("navigation/simple")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curriculum=mien"], "did you mean 'mine'"),
        (["curriculum.tasks.a.env=navigation/simpel"], "did you mean 'navigation/simple'"),
        (["curriculum=mine", "curriculum.tasks.tag.env=laser_tag"], "task 'tag;altars=1..4': environment"),
        (
            ["curriculum=mine", "curriculum.tasks.four={env: navigation/terrain_small}"],
            "' and 'four;altars=1..4",
        ),
        (["curriculum=mine", "curriculum.buckets.hearts=[1, 2]"], "no argument 'hearts'"),
        (["curriculum=mine", "curriculum.buckets.size=[3]"], "args.size=3"),
        (["curriculum=arena/basic", "curriculum.algorithm=learning_progress"], "score_max"),
        (["env=navigation/simple", "trainer.env_overrides.sice=7"], "no argument 'sice'"),
        (["curriculum=mine", "trainer.curriculum_server.host=x"], "trainer.curriculum_server.host"),
    ],
)
def test_mistakes_leave_no_run_directory(words, message, tmp_path, capsys):
    assert train(*words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


def test_a_run_without_the_rule_of_before_begins_to_learn_anew(tmp_path):
    assert train("curriculum=mine", "trainer.total_timesteps=1024") == 0
    words = ["curriculum.algorithm=prioritize_regressed", "trainer.total_timesteps=2048"]
    assert train("curriculum=mine", *words) == 0
    assert "best_score" in next(iter(table(tmp_path / "runs/r").values()))
    assert [info.epoch for info in list_checkpoints(tmp_path / "runs/r/checkpoints")] == [1, 2]
