"""Every configuration file that ships with metta can be used, and says what the documents promise."""

from pathlib import Path

import pytest

from metta_cli.config import places
from metta_cli.config.catalogue import (
    curriculum_names,
    environment_names,
    find_curriculum,
    find_environment,
    find_suite,
    suite_names,
)
from metta_cli.config.files import read_yaml
from metta_cli.config.layers import load_config
from metta_cli.config.tasks import create_tasks
from metta_cli.config.trainer import unsupported_settings
from metta_cli.environments.builders import BUILDERS
from metta_cli.environments.tasks import TaskSet
from metta_cli.extensions import POLICIES, plugin_names

SHIPPED = sorted(
    path
    for path in places.shipped_configs().rglob("*.yaml")
    if path.parent != places.shipped_configs() / places.LAUNCH
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_file_is_in_a_group_or_at_the_top():
    groups = {path.relative_to(places.shipped_configs()).parts[0] for path in SHIPPED}
    assert groups - {"common.yaml", "demo.yaml"} == set(places.GROUPS)


@pytest.mark.parametrize("path", SHIPPED, ids=[places.display(path) for path in SHIPPED])
def test_file_loads_and_asks_for_nothing_that_this_version_cannot_do(path):
    config = load_config(files=[str(path)]).config
    assert unsupported_settings(config.trainer) == []


@pytest.mark.parametrize("path", SHIPPED, ids=[places.display(path) for path in SHIPPED])
def test_file_says_in_its_first_line_what_it_is(path):
    first = path.read_text().partition("\n")[0]
    assert first.startswith(("# ", "description: "))


def test_what_is_for_other_programs_is_found_by_name_and_listed_nowhere():
    assert places.find("", "launch/skypilot") == places.shipped_configs() / "launch/skypilot.yaml"
    assert not any(name.startswith(places.LAUNCH) for name in places.names())


def test_the_catalogue_is_the_documented_one():
    assert environment_names() == [
        "arena/basic_2x4",
        "arena/basic_2x8",
        "arena/basic_4x4",
        "arena/combat_2x4",
        "arena/combat_2x8",
        "arena/combat_4x4",
        "laser_tag",
        "laser_tag_small",
        "memory/memory_one_apple",
        "navigation/intermediate",
        "navigation/simple",
        "navigation/terrain_large",
        "navigation/terrain_maps_nohearts",
        "navigation/terrain_medium",
        "navigation/terrain_small",
        *sorted(
            f"navigation/varied_terrain/{style}_{size}"
            for style in ("balanced", "sparse", "dense", "maze", "cylinder-world")
            for size in ("large", "medium", "small")
        ),
    ]


@pytest.mark.parametrize("name", environment_names())
def test_environment_has_a_builder_and_a_description(name):
    spec = find_environment(name)
    assert (spec.name, spec.builder in BUILDERS, spec.description != "") == (name, True, True)


def test_the_suites_are_the_documented_ones():
    assert set(suite_names()) == {
        "all",
        "full_eval",
        "laser_tag",
        "memory",
        "navigation",
        "navigation_rooms",
        "navigation_single",
        "varied_terrain",
    }


@pytest.mark.parametrize("name", suite_names())
def test_suite_is_called_like_its_file_and_its_environments_exist(name):
    suite = find_suite(name)
    assert suite.name == name
    for simulation, config in suite.simulations.items():
        category, _, rest = simulation.partition("/")
        assert rest, f"{simulation} has no category"
        assert find_environment(config.env).name.partition("/")[0] == category


def test_the_full_evaluation_and_the_suite_of_terrains_have_everything_once():
    suites = [find_suite(name).simulations.values() for name in ("full_eval", "varied_terrain")]
    played = sorted(simulation.env for suite in suites for simulation in suite)
    assert played == [name for name in environment_names() if name != "laser_tag_small"]  # laser_tag is there


def test_the_curricula_are_the_documented_ones():
    assert curriculum_names() == [
        "arena/basic",
        "arena/learning_progress",
        "navigation/bucketed",
        "navigation/low_reward",
        "navigation/progressive",
        "navigation/random",
        "navigation/rooms",
        "navigation/sampled",
    ]


@pytest.mark.parametrize("name", curriculum_names())
def test_the_tasks_of_a_curriculum_fit_together(name):
    curriculum = find_curriculum(name)
    assert curriculum.name == name
    assert curriculum.description.endswith(".")
    tasks = TaskSet(create_tasks(curriculum, find_environment("laser_tag"))).tasks
    assert len(tasks) == {"navigation/progressive": 5, "navigation/sampled": 1}.get(name, len(tasks))


@pytest.mark.parametrize("name", ["bucketed", "low_reward", "random"])
def test_the_navigation_curricula_have_the_16_terrains_of_2025_with_4_ranges_of_altars(name):
    tasks = create_tasks(find_curriculum(f"navigation/{name}"), find_environment("laser_tag"))
    families = {task.name.rpartition(";")[0] for task in tasks}
    assert families == {simulation.env for simulation in find_suite("varied_terrain").simulations.values()}
    assert (len(tasks), len(families)) == (64, 16)
    assert {task.ranges["altars"] for task in tasks} == {(2, 5), (6, 9), (10, 13), (14, 18)}


def test_suites_of_the_documents_have_their_environments():
    assert list(find_suite("laser_tag").simulations) == ["laser_tag/simple"]
    assert list(find_suite("navigation").simulations) == [
        "navigation/terrain_small",
        "navigation/terrain_medium",
        "navigation/terrain_large",
    ]


def test_the_default_policy_is_a_plugin():
    assert load_config().config.policy.name in plugin_names(POLICIES)


@pytest.mark.parametrize("name", ["common", "trainer/trainer", "policy/fast", "wandb/off"])
def test_what_every_configuration_includes_leaves_the_sizes_to_the_hardware(name):
    def keys(node, prefix=()):
        if not isinstance(node.value, dict):
            return {prefix}
        return {key for part, inner in node.value.items() for key in keys(inner, (*prefix, part))}

    package = ("trainer",) if name == "trainer/trainer" else ()
    included = keys(read_yaml(places.find_file(name)), package)
    for hardware in places.names("hardware"):
        assert not included & keys(read_yaml(places.find_file(f"hardware/{hardware}")))
