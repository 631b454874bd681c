"""Files that name others: order, packages, circles."""

import pytest

from metta_cli.config.layers import load_config
from metta_cli.errors import ConfigError, MettaError, NotFoundError, UnknownNameError


def load(*words, files=("mine.yaml",)):
    return load_config(files=files, words=words)


def test_defaults_lie_under_the_file_that_names_them(write):
    write("defaults: [base]\nseed: 2\n")
    write("seed: 1\nrun: base\n", "base.yaml")
    config = load().config
    assert (config.seed, config.run) == (2, "base")


def test_what_stands_behind_self_lies_over_the_file(write):
    write("defaults: [_self_, base]\nseed: 2\nrun: mine\n")
    write("seed: 1\n", "base.yaml")
    config = load().config
    assert (config.seed, config.run) == (1, "mine")


def test_of_several_defaults_the_later_one_wins(write):
    write("defaults: [one, two]\n")
    write("seed: 1\ndevice: cpu\n", "one.yaml")
    write("seed: 2\n", "two.yaml")
    config = load().config
    assert (config.seed, config.device) == (2, "cpu")


def test_sections_are_merged_and_lists_are_replaced(write):
    write("defaults: [base]\ntrainer: {ppo: {gamma: 0.5}}\nwandb: {tags: [c]}\n")
    write("trainer: {ppo: {ent_coef: 0.5, gamma: 0.1}}\nwandb: {tags: [a, b], group: g}\n", "base.yaml")
    config = load().config
    assert (config.trainer.ppo.gamma, config.trainer.ppo.ent_coef) == (0.5, 0.5)
    assert (config.wandb.tags, config.wandb.group) == (["c"], "g")


def test_an_empty_mapping_takes_nothing_away(write):
    write("defaults: [base]\ntrainer: {}\n")
    write("trainer: {ppo: {gamma: 0.1}}\n", "base.yaml")
    assert load().config.trainer.ppo.gamma == 0.1


def test_entries_may_be_groups_with_a_name_under_old_or_new_names(write):
    write("defaults:\n  - env: laser_tag\n  - /sim/memory\n  - /agent/fast\n  - hardware: local_debug\n")
    config = load().config
    assert config.env.name == "laser_tag"
    assert config.sim.suite.name == "memory"
    assert config.policy.name == "fast"
    assert config.hardware == "local_debug"
    assert config.trainer.batch_size == 1024


def test_a_suite_goes_where_the_at_sign_says(write):
    write("defaults:\n  - /sim/memory@evals\n")
    config = load().config
    assert config.sim.suite is None
    assert list(config.evals.simulations) == ["memory/memory_one_apple"]


def test_relative_entries_of_the_working_directory_come_before_shipped_ones(write):
    write("defaults: [/trainer/trainer]\n")
    write("ppo: {gamma: 0.25}\n", "configs/trainer/trainer.yaml")
    assert load().config.trainer.ppo.gamma == 0.25


def test_a_file_of_a_group_builds_upon_its_neighbour_at_the_same_place(write):
    write("defaults: [all]\nname: mine\nnum_episodes: 5\n", "configs/suite/mine.yaml")
    write("name: all\nsimulations: {a: {env: laser_tag}}\n", "configs/suite/all.yaml")
    write("evals: mine\n")
    config = load().config
    assert (config.evals.name, list(config.evals.simulations)) == ("mine", ["a"])
    assert config.evals.simulations["a"].num_episodes == 5
    assert config.sim.suite is None


def test_naming_common_changes_nothing(write):
    write("defaults: [/common]\n")
    write("env: laser_tag\nseed: 3\n", "first.yaml")
    config = load(files=["first.yaml", "mine.yaml"]).config
    assert (config.env.name, config.seed) == ("laser_tag", 3)


def test_the_arguments_of_another_builder_do_not_stay(write):
    write("env: {builder: arena, args: {teams: 2}}\n")
    resolved = load("env=navigation/terrain_small")
    assert "teams" not in resolved.config.env.args
    assert load().config.env.args == {"teams": 2}


def test_arguments_alone_are_merged_into_the_environment(write):
    write("env: {args: {size: 20}}\n")
    args = load("env=navigation/simple").config.env.args
    assert "builder" not in args
    assert (args["size"], args["altars"]) == (12, 3)  # a word that selects lies over the file
    assert load("env.args.altars=5").config.env.args["size"] == 20


def test_the_arguments_of_another_policy_do_not_stay():
    assert load_config(words=["policy=mine"]).config.policy.args == {}
    assert load_config(words=["policy.name=mine", "policy.args.width=3"]).config.policy.args == {"width": 3}


def test_names_select_before_values_whatever_the_order():
    words = ["trainer.batch_size=2048", "hardware=local_debug", "env.args.size=20", "env=navigation/simple"]
    config = load_config(words=words).config
    assert (config.trainer.batch_size, config.trainer.minibatch_size) == (2048, 512)
    assert config.env.args["size"] == 20


def test_a_user_file_lies_under_the_names_beside_it(write):
    write("env: memory/memory_one_apple\nhardware: gpu\n", "configs/user/me.yaml")
    write("env: laser_tag\nhardware: local_debug\nuser: me\n")
    config = load().config
    assert (config.env.name, config.hardware) == ("laser_tag", "local_debug")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: [mine]", "circle: mine.yaml -> mine.yaml"),
        ("defaults: [other]", "circle: mine.yaml -> other.yaml -> mine.yaml"),
        ("defaults: base", "mine.yaml:1: `defaults` is not a list"),
        ("seed: 1\ndefaults:\n  - [a]", "mine.yaml:3: not an entry"),
        ("defaults:\n  - 3", "mine.yaml:2: not an entry"),
        ("defaults:\n  - /sim/all@trainer", "mine.yaml:2: a suite has no place at 'trainer'"),
        ("defaults:\n  - trainr: trainer", r"unknown key 'trainr' \(mine.yaml:2\)"),
    ],
)
def test_wrong_defaults_are_told_with_their_line(write, text, message):
    write(text)
    write("defaults: [mine]", "other.yaml")
    with pytest.raises(ConfigError, match=message):
        load()


@pytest.mark.parametrize(
    ("entry", "message", "cure"),
    [
        ("/sim/laser_tga", "unknown suite 'laser_tga'", "did you mean 'laser_tag'?"),
        ("hardware: cpuu", "unknown hardware setting 'cpuu'", "did you mean 'cpu'?"),
        ("/no/such", "unknown configuration '/no/such'", "metta configs list"),
        ("nowhere", "unknown configuration 'nowhere'", "metta configs list"),
    ],
)
def test_a_missing_file_is_told_with_who_named_it(write, entry, message, cure):
    write(f"seed: 1\ndefaults:\n  - {entry}\n")
    with pytest.raises(UnknownNameError, match=message) as error:
        load()
    assert cure in error.value.cure
    assert "mine.yaml:3" in error.value.cure


def test_files_are_found_by_path_or_by_name(write):
    write("seed: 5\n", "configs/mine.yaml")
    assert load(files=["configs/mine.yaml"]).config.seed == 5
    assert load(files=["mine"]).config.seed == 5
    assert load(files=["demo"]).config.env.name == "navigation/simple"
    with pytest.raises(NotFoundError, match=r"no file nope.yaml"):
        load(files=["nope.yaml"])
    with pytest.raises(UnknownNameError, match="unknown configuration 'demoo'") as error:
        load(files=["demoo"])
    assert error.value.cure == "did you mean 'demo'?"


def test_a_file_of_a_group_means_the_same_as_its_name():
    by_file, by_word = load(files=["env/laser_tag"]), load("env=laser_tag", files=())
    assert by_file.config.env.args == by_word.config.env.args


@pytest.mark.parametrize("name", ["x" * 300 + ".yaml", "a\0b.yaml", "../../etc/passwd", "", ".", "/"])
def test_names_that_cannot_be_files_are_told_as_unknown(name):
    with pytest.raises(MettaError):
        load(f"env={name}", files=())
    with pytest.raises(MettaError):
        load(files=[name])


def test_a_neighbour_from_the_folder_of_another_group_goes_to_its_own_place(write):
    write("defaults: [../trainer/mine]\nseed: 3\n", "configs/user/me.yaml")
    write("ppo: {gamma: 0.25}\n", "configs/trainer/mine.yaml")
    config = load("user=me", files=()).config
    assert (config.trainer.ppo.gamma, config.seed) == (0.25, 3)


def test_a_name_that_looks_like_a_number_is_a_name(write):
    write("seed: 3\n", "configs/user/007.yaml")
    write("user: 007\n")
    write("name: year\nsimulations: {a: {env: laser_tag}}\n", "configs/suite/2024.yaml")
    assert load().config.seed == load("user=007", files=()).config.seed == 3
    assert load("sim.suite=2024").config.sim.suite.name == "year"


def test_of_two_user_files_only_the_one_of_the_higher_layer_counts(write):
    write("seed: 1\ndevice: cpu\n", "configs/user/one.yaml")
    write("seed: 2\n", "configs/user/two.yaml")
    config = load_config(environ={"METTA_USER": "one"}, words=["user=two"]).config
    assert (config.seed, config.device, config.user) == (2, "auto", "two")


def test_a_section_that_was_null_may_be_filled_again(write):
    write("evals: null\n")
    config = load("evals.name=x", "evals.simulations.a.env=laser_tag").config
    assert config.evals.simulations["a"].env == "laser_tag"


def test_a_value_takes_the_place_of_a_whole_section(write):
    write("evals: navigation\n")
    assert load("evals=null").config.evals is None
