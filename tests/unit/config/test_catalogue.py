"""Environments and suites by name."""

import pytest

from metta_cli.config.catalogue import environment_names, find_environment, find_suite, suite_names
from metta_cli.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize(
    "spelling",
    [
        "navigation/simple",
        "/navigation/simple",
        "env/navigation/simple",
        "/env/navigation/simple",
        "mettagrid/navigation/simple",
        "/env/mettagrid/navigation/simple",
        "env/mettagrid/navigation/simple",
        "configs/env/navigation/simple.yaml",
        "navigation/simple.yaml",
    ],
)
def test_an_environment_is_known_under_every_spelling(spelling):
    spec = find_environment(spelling)
    assert (spec.name, spec.builder) == ("navigation/simple", "mean_distance")
    assert spec.args["size"] == 12


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("simple", "navigation/simple"),
        ("navigation/simpel", "navigation/simple"),
        ("mettagrid/laser_tga", "laser_tag"),
        ("memory_one_apple", "memory/memory_one_apple"),
        ("Laser_Tag", "laser_tag"),
        ("/env/mettagrid/arena/combat_2x3", "arena/combat_2x4"),
    ],
)
def test_an_unknown_environment_is_answered_with_the_closest(name, meant):
    with pytest.raises(UnknownNameError, match="unknown environment") as error:
        find_environment(name)
    assert f"'{meant}'" in error.value.cure


def test_the_working_directory_adds_environments_and_hides_shipped_ones(write):
    write("builder: arena\nargs: {teams: 3}\n", "configs/env/mine/big.yaml")
    write("builder: arena\n", "configs/env/laser_tag.yaml")
    assert "mine/big" in environment_names()
    assert environment_names().count("laser_tag") == 1
    assert find_environment("/env/mettagrid/mine/big").args == {"teams": 3}
    assert find_environment("laser_tag").builder == "arena"


def test_an_environment_may_be_a_file_anywhere(write, directory):
    write("builder: arena\nargs: {teams: 3}\n", "somewhere/big.yaml")
    for path in ("somewhere/big.yaml", str(directory / "somewhere/big.yaml")):
        spec = find_environment(path)
        assert (spec.name, spec.args) == ("big", {"teams": 3})


def test_an_environment_may_build_upon_another(write):
    write("defaults: [/env/navigation/simple]\nargs: {size: 20}\n", "configs/env/wide.yaml")
    spec = find_environment("wide")
    assert (spec.name, spec.builder, spec.args["size"], spec.args["altars"]) == (
        "wide",
        "mean_distance",
        20,
        3,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("args: {size: 3}", r"env.builder is missing \(configs/env/bad.yaml:1\)"),
        ("builder: arena\nsize: 3", r"unknown key 'env.size' \(configs/env/bad.yaml:2\)"),
        ("builder: arena\nmap_pool_size: many", r"env.map_pool_size = many \(configs/env/bad.yaml:2\)"),
    ],
)
def test_a_wrong_environment_file_is_told_with_its_line(write, text, message):
    write(text, "configs/env/bad.yaml")
    with pytest.raises(ConfigError, match=message):
        find_environment("bad")


@pytest.mark.parametrize("spelling", ["laser_tag", "/sim/laser_tag", "suite/laser_tag", "sim/laser_tag.yaml"])
def test_a_suite_is_known_under_every_spelling(spelling):
    assert list(find_suite(spelling).simulations) == ["laser_tag/simple"]


def test_an_unknown_suite_is_answered_with_the_closest():
    with pytest.raises(UnknownNameError, match="unknown suite 'fulleval'") as error:
        find_suite("fulleval")
    assert error.value.cure == "did you mean 'full_eval'?"


def test_the_working_directory_adds_suites(write):
    write("name: mine\nsimulations: {a/b: {env: laser_tag}}\n", "configs/suite/mine.yaml")
    assert "mine" in suite_names()
    assert find_suite("mine").simulations["a/b"].env == "laser_tag"


def test_hidden_files_are_no_part_of_the_catalogue(write):
    write("builder: arena\n", "configs/env/.drafts/mine.yaml")
    write("builder: arena\n", "configs/env/.mine.yaml")
    assert not [name for name in environment_names() if "mine" in name]
