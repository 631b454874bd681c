"""`metta configs`."""

import json
from pathlib import Path

import pytest
import yaml

from metta_cli.config import places

ENVIRONMENT = "description: Mine.\nbuilder: mean_distance\nargs: {size: 12, mean_distance: 3}\n"


def write_config(name, text):
    path = Path("configs") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_list_shows_the_shipped_files_with_what_they_are_for(metta):
    rows = json.loads(metta("configs", "list", "--format", "json").out)
    assert len(rows) == len(places.names())
    assert {"group": "env", "name": "navigation/simple"}.items() <= next(
        row.items() for row in rows if row["name"] == "navigation/simple"
    )
    assert all(row["description"] for row in rows)


def test_the_list_can_be_of_one_group(metta):
    rows = json.loads(metta("configs", "list", "suite", "--format", "json").out)
    assert {row["group"] for row in rows} == {"suite"}
    assert "full_eval" in {row["name"] for row in rows}


def test_a_file_of_the_working_directory_hides_the_shipped_one(metta):
    write_config("env/navigation/simple.yaml", ENVIRONMENT)
    rows = json.loads(metta("configs", "list", "env", "--format", "json").out)
    (row,) = [row for row in rows if row["name"] == "navigation/simple"]
    assert (row["description"], row["file"]) == ("Mine.", "configs/env/navigation/simple.yaml")


def test_a_broken_file_is_listed_with_its_reason(metta):
    write_config("env/bad.yaml", "a: [")
    outcome = metta("configs", "list", "env", "--format", "json")
    (row,) = [row for row in json.loads(outcome.out) if row["name"] == "bad"]
    assert outcome.code == 0
    assert row["description"].startswith("broken: ")
    assert "bad.yaml:" in row["description"]


@pytest.mark.parametrize(
    "name",
    ["navigation/simple", "env/navigation/simple", "/env/mettagrid/navigation/simple", "demo", "full_eval"],
)
def test_show_prints_the_file_as_it_is_and_where_it_is(metta, name):
    outcome = metta("configs", "show", name)
    path = Path(outcome.err.removeprefix("# ").strip())
    assert outcome.code == 0
    assert outcome.out == path.read_text()
    assert isinstance(yaml.safe_load(outcome.out), dict)


def test_show_takes_a_path(metta):
    Path("x.yaml").write_text("run: x\n")
    assert metta("configs", "show", "x.yaml").out == "run: x\n"


def test_a_name_of_several_groups_must_be_told_with_its_group(metta):
    outcome = metta("configs", "show", "laser_tag")
    assert outcome.code == 2
    assert outcome.err.endswith("hint: write env/laser_tag or suite/laser_tag\n")


def test_an_unknown_name_gets_the_closest(metta):
    outcome = metta("configs", "show", "navigation/simpel")
    assert outcome.code == 2
    assert "unknown configuration 'navigation/simpel'" in outcome.err
    assert "'env/navigation/simple'" in outcome.err
    assert metta("configs", "show", "qqqqqqqq").err.endswith("hint: see 'metta configs list'\n")


def test_copy_puts_a_file_where_it_hides_the_shipped_one(metta):
    outcome = metta("configs", "copy", "navigation/simple")
    target = Path("configs/env/navigation/simple.yaml")
    assert outcome.code == 0
    assert outcome.err == f"wrote {target}\n"
    assert target.read_text() == (places.shipped_configs() / "env/navigation/simple.yaml").read_text()
    assert places.find("env", "navigation/simple") == target.absolute()


def test_copy_replaces_nothing_unless_it_is_forced(metta):
    target = write_config("env/navigation/simple.yaml", ENVIRONMENT)
    shipped = places.shipped_configs() / "env/navigation/simple.yaml"
    outcome = metta("configs", "copy", str(shipped), str(target))
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert target.read_text() == ENVIRONMENT
    assert metta("configs", "copy", str(shipped), str(target), "--force").code == 0
    assert target.read_text() == shipped.read_text()


def test_copy_into_a_directory_keeps_the_name(metta):
    Path("here").mkdir()
    assert metta("configs", "copy", "demo", "here").code == 0
    assert Path("here/demo.yaml").is_file()


def test_copying_a_file_onto_itself_is_refused_even_if_forced(metta):
    target = write_config("env/navigation/simple.yaml", ENVIRONMENT)
    assert metta("configs", "copy", "navigation/simple", "--force").code == 2
    assert target.read_text() == ENVIRONMENT


def test_every_shipped_file_is_valid(metta):
    outcome = metta("configs", "validate", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert {row["state"] for row in json.loads(outcome.out)} == {"ok"}


def test_validate_tells_every_file_that_cannot_be_used_and_ends_with_2(metta):
    write_config("env/even.yaml", ENVIRONMENT + "map_pool_sise: 3\n")
    write_config("suite/mine.yaml", "name: mine\nsimulations: {a/b: {env: navigation/simpel}}\n")
    Path("whole.yaml").write_text("trainer: {batch_size: many}\n")
    Path("good.yaml").write_text("env: navigation/simple\nseed: 3\n")
    outcome = metta("configs", "validate", "env/even", "mine", "whole.yaml", "good.yaml", "--format", "json")
    problems = {Path(row["file"]).name: row["problem"] for row in json.loads(outcome.out)}
    assert outcome.code == 2
    assert "3 of 4 files cannot be used" in outcome.err
    assert "map_pool_size" in problems["even.yaml"]
    assert "navigation/simple" in problems["mine.yaml"]
    assert "batch_size" in problems["whole.yaml"]
    assert problems["good.yaml"] is None


def test_an_environment_may_lie_anywhere(metta):
    Path("mine.yaml").write_text(ENVIRONMENT)
    assert metta("configs", "validate", "mine.yaml").code == 0
    Path("mine.yaml").write_text(ENVIRONMENT.replace("mean_distance: 3", "mean_distnace: 3"))
    assert metta("configs", "validate", "mine.yaml").code == 2


def test_validate_makes_the_environment(metta):
    write_config("env/crowded.yaml", ENVIRONMENT.replace("size: 12", "size: 2"))
    outcome = metta("configs", "validate", "env/crowded")
    assert outcome.code == 2
    assert "invalid" in outcome.out
