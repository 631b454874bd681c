"""Teachers on the command line."""

import pytest

from metta_cli.cli.main import main
from metta_cli.tracking.jsonl import read_metrics

SIZES = ["hardware=local_debug", "trainer.checkpoint.checkpoint_interval=1", "--progress", "none"]


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main(["train", *SIZES, *words])
    return ended.value.code or 0


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    words = ["env=navigation/simple", "--run", "teacher", "--data-dir", str(directory)]
    assert run(*words, "trainer.total_timesteps=1024") == 0
    return directory


def test_a_run_learns_from_two_teachers_that_are_runs(teacher_dir):
    code = run(
        "env=navigation/simple",
        "trainer.kickstart.teacher_uri=teacher",
        "trainer.kickstart.additional_teachers=[{teacher_uri: teacher, value_loss_coef: 0}]",
        "trainer.kickstart.kickstart_steps=2048",
        "trainer.kickstart.anneal_ratio=0.5",
        "trainer.total_timesteps=3072",
        "--run=student",
        f"--data-dir={teacher_dir}",
    )
    assert code == 0
    losses = [
        record["losses/ks_action_loss"] for record in read_metrics(teacher_dir / "student/metrics.jsonl")
    ]
    assert losses[0] > losses[1] == losses[2] == 0.0  # after 1024, 2048 and 3072 agent steps


@pytest.mark.parametrize(
    ("teacher", "code", "message"),
    [
        ("techer", 5, "did you mean 'teacher'"),
        ("random", 2, "a built-in player has no probabilities to learn from"),
    ],
)
def test_a_teacher_that_is_none_leaves_no_run_behind(teacher_dir, capsys, teacher, code, message):
    words = [f"trainer.kickstart.teacher_uri={teacher}", "--run=pupil", f"--data-dir={teacher_dir}"]
    assert run("env=navigation/simple", *words) == code
    assert message in capsys.readouterr().err
    assert not (teacher_dir / "pupil").exists()


def test_a_teacher_from_another_world_is_matched_by_name(teacher_dir, capsys):
    code = run(
        "env=laser_tag",
        "trainer.kickstart.teacher_uri=teacher",
        "trainer.total_timesteps=1536",
        "trainer.batch_size=1536",
        "trainer.minibatch_size=1536",
        "--run=elsewhere",
        f"--data-dir={teacher_dir}",
    )
    assert code == 0
    assert "teacher teacher is matched by name" in capsys.readouterr().err
