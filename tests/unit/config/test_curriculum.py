"""Curricula as they are written: selected by name, changed by keys, unfolded to tasks."""

import pytest

from metta_cli.config.catalogue import curriculum_names, find_curriculum, find_environment
from metta_cli.config.curriculum import CurriculumConfig, ParameterRange, Task
from metta_cli.config.layers import load_config
from metta_cli.config.tasks import create_tasks, task_weights
from metta_cli.errors import ConfigError, UnknownNameError

ROOM = find_environment("navigation/simple")


def curriculum(*words):
    return load_config(words=words).config.trainer.curriculum


@pytest.mark.parametrize(
    "word",
    [
        "trainer.curriculum=navigation/bucketed",
        "curriculum=navigation/bucketed",
        "curriculum=/env/mettagrid/curriculum/navigation/bucketed",
        "curriculum=env/mettagrid/curriculum/navigation/bucketed.yaml",
        "curriculum=curriculum/navigation/bucketed",
        "trainer.curriculum=/curriculum/navigation/bucketed",
    ],
)
def test_every_spelling_means_the_same_file(word):
    assert curriculum(word) == find_curriculum("navigation/bucketed")
    assert curriculum(word).name == "navigation/bucketed"


def test_there_is_none_unless_asked_for():
    assert curriculum() is None
    assert curriculum("curriculum=navigation/bucketed", "trainer.curriculum=null") is None


def test_an_environment_is_a_curriculum_of_itself():
    chosen = curriculum("curriculum=/env/mettagrid/memory/memory_one_apple")
    assert chosen == CurriculumConfig(env="memory/memory_one_apple")
    assert [task.spec.name for task in create_tasks(chosen, ROOM)] == ["memory/memory_one_apple"]


def test_an_unknown_name_is_answered_with_the_closest_of_both_kinds():
    with pytest.raises(
        UnknownNameError, match=r"unknown curriculum 'navigation/bucketted' .*'navigation/bucketed'"
    ):
        curriculum("curriculum=navigation/bucketted")
    with pytest.raises(UnknownNameError, match="navigation/intermediate"):
        curriculum("curriculum=navigation/intermediat")


def test_a_selected_curriculum_replaces_the_one_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("curriculum: navigation/bucketed\n")
    config = load_config(files=["mine.yaml"], words=["curriculum=navigation/sampled"]).config
    assert config.trainer.curriculum == find_curriculum("navigation/sampled")
    config = load_config(files=["mine.yaml"], words=["curriculum=navigation/simple"]).config
    assert config.trainer.curriculum == CurriculumConfig(env="navigation/simple")


def test_keys_change_a_selected_curriculum_whatever_their_order():
    words = [
        "curriculum.algorithm=random",
        "curriculum=navigation/bucketed",
        "curriculum.buckets.altars.bins=2",
    ]
    chosen = curriculum(*words)
    assert (chosen.algorithm, chosen.buckets["altars"]["bins"], len(chosen.tasks)) == ("random", 2, 16)


def test_a_saved_configuration_holds_the_whole_curriculum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resolved = load_config(words=["curriculum=navigation/low_reward"])
    (tmp_path / "saved.yaml").write_text(resolved.to_yaml())
    again = load_config(files=["saved.yaml"]).config
    assert again.trainer.curriculum == resolved.config.trainer.curriculum


def test_a_file_of_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/curriculum").mkdir(parents=True)
    (tmp_path / "configs/curriculum/mine.yaml").write_text("tasks:\n  navigation/simple: {weight: 2}\n")
    assert "mine" in curriculum_names()
    assert find_curriculum("mine").tasks["navigation/simple"].weight == 2


def test_buckets_multiply_and_ranges_are_cut():
    config = CurriculumConfig(
        env="navigation/simple", buckets={"size": [12, 15], "altars": {"range": [1, 6], "bins": 3}}
    )
    tasks = create_tasks(config, ROOM)
    assert [task.name for task in tasks] == [
        f"navigation/simple;size={size};altars={altars}"
        for size in (12, 15)
        for altars in ("1..2", "3..4", "5..6")
    ]
    assert tasks[4].spec.args["size"] == 15
    assert tasks[4].ranges == {"altars": (3, 4)}


@pytest.mark.parametrize(
    ("span", "parts"),
    [
        ({"range": (2, 18), "bins": 4}, [(2, 5), (6, 9), (10, 13), (14, 18)]),
        ({"range": (1, 3), "bins": 3}, [(1, 1), (2, 2), (3, 3)]),
        ({"range": (0.0, 1.0), "bins": 2}, [(0.0, 0.5), (0.5, 1.0)]),
        ({"range": (4, 4)}, [(4, 4)]),
    ],
)
def test_whole_numbers_fall_into_exactly_one_bin(span, parts):
    assert ParameterRange(**span).parts() == parts


def test_parameters_are_drawn_within_every_task():
    config = CurriculumConfig(
        env="navigation/simple", parameters={"altars": [1, 3], "mean_distance": {"range": [4.0, 8.0]}}
    )
    [task] = create_tasks(config, ROOM)
    assert task.ranges == {"altars": [1, 3], "mean_distance": (4.0, 8.0)}
    assert task.draw(lambda name: 0.5) == {"altars": 3, "mean_distance": 6.0}


@pytest.mark.parametrize(("fraction", "altars"), [(0.0, 2), (0.249, 2), (0.25, 3), (0.75, 5), (0.9999, 5)])
def test_both_ends_of_a_range_are_drawn(fraction, altars):
    assert Task("t", ROOM, {"altars": (2, 5)}).draw(lambda name: fraction) == {"altars": altars}


def test_overrides_go_from_the_general_to_the_particular():
    config = CurriculumConfig(
        env_overrides={"max_steps": 10, "size": 20, "altars": 1, "walls": 1},
        tasks={"a": {"env": "navigation/simple", "env_overrides": {"size": 21, "altars": 2, "walls": 2}}},
        buckets={"walls": [4]},
    )
    [task] = create_tasks(config, ROOM, {"altars": 3, "walls": 3})
    assert {name: task.spec.args[name] for name in ("max_steps", "size", "altars", "walls")} == {
        "max_steps": 10,
        "size": 21,
        "altars": 3,
        "walls": 4,
    }


def test_without_an_environment_it_is_that_of_the_run():
    [task] = create_tasks(CurriculumConfig(), find_environment("laser_tag"))
    assert (task.name, task.spec) == ("laser_tag", find_environment("laser_tag"))


def test_weights_belong_to_environments():
    config = CurriculumConfig(
        tasks={"navigation/simple": {"weight": 3}, "navigation/intermediate": {}}, buckets={"altars": [1, 2]}
    )
    assert task_weights(config) == [1.5, 1.5, 0.5, 0.5]
    assert len(create_tasks(config, ROOM)) == 4


def test_an_unknown_environment_is_told_with_its_place():
    config = CurriculumConfig(name="mine", tasks={"navigation/simpel": {}})
    message = (
        r"'navigation/simpel' .*'navigation/simple' .*\(trainer.curriculum.tasks.navigation/simpel of curric"
    )
    with pytest.raises(UnknownNameError, match=message):
        create_tasks(config, ROOM)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curriculum.algorithm=magic"], "algorithm = magic"),
        (["curriculum.buckets.altars=3"], "list of values or"),
        (["curriculum.buckets.altars=[]"], "no values"),
        (["curriculum.buckets.altars.range=[5, 2]"], "ends at 2"),
        (["curriculum.buckets.altars={range: [1, 3], bins: 4}"], "3 whole numbers cannot fill 4 bins"),
        (["curriculum.buckets.altars={range: [1, 3], bin: 2}"], "bin"),
        (["curriculum.learning_progres.memory=3"], "unknown key"),
        (["curriculum.tasks.a.wieght=3"], "unknown key"),
        (["curriculum.tasks.a.weight=0"], "weight = 0"),
    ],
)
def test_mistakes_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        curriculum(*words)
