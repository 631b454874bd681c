"""Words, environment variables and options: what they set, and what is no setting."""

import pytest

from metta_cli.config.words import environment_settings, option_settings, parse_word
from metta_cli.errors import ConfigError


def pairs(settings):
    return [(".".join(setting.key), setting.value) for setting in settings]


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("seed=3", "seed", 3),
        ("+user=me", "user", "me"),
        ("++seed=3", "seed", 3),
        ("trainer.total_timesteps=10_000_000", "trainer.total_timesteps", 10_000_000),
        ("trainer.ppo.gamma=1e-3", "trainer.ppo.gamma", 0.001),
        ("sim.render=true", "sim.render", True),
        ("wandb=off", "wandb", "off"),
        ("run=null", "run", None),
        ("policy_uri=pytorch://a/b.pt", "policy_uri", "pytorch://a/b.pt"),
        ("policy_uri=wandb://e/p/model/name:latest", "policy_uri", "wandb://e/p/model/name:latest"),
        ("policy_uri=s3://b/k?a=b&c=d", "policy_uri", "s3://b/k?a=b&c=d"),
        ("wandb.notes=a: b #c", "wandb.notes", "a: b #c"),
        ("wandb.tags=[a, b]", "wandb.tags", ["a", "b"]),
        ("wandb.notes='3'", "wandb.notes", "3"),
        ("sim.suite.simulations.navigation/simple.env=x", "sim.suite.simulations.navigation/simple.env", "x"),
    ],
)
def test_a_word_sets_one_value(word, key, value):
    assert pairs(parse_word(word)) == [(key, value)]


def test_a_word_may_hold_several_values():
    assert pairs(parse_word("sim={episodes: 3, render: true}")) == [("sim.episodes", 3), ("sim.render", True)]


@pytest.mark.parametrize("word", ["seed", "=3", "a..b=3", ".a=3", "seed =3", " seed=3", "+=3", ""])
def test_a_word_without_a_key_is_no_setting(word):
    with pytest.raises(ConfigError, match="is not a setting"):
        parse_word(word)


@pytest.mark.parametrize("word", ["wandb.tags=[a", "wandb.tags={a: 1", "wandb.notes='a", "a={b: 1, b: 2}"])
def test_broken_yaml_behind_the_equals_sign_is_told_without_a_line(word):
    with pytest.raises(ConfigError) as error:
        parse_word(word)
    assert error.value.message.startswith(f"{word}: ")
    assert "value:" not in error.value.message


def test_an_empty_value_is_refused_and_told_how_to_have_none():
    with pytest.raises(ConfigError, match="null"):
        parse_word("run=")
    with pytest.raises(ConfigError, match="METTA_RUN has no value"):
        environment_settings({"METTA_RUN": ""})


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ConfigError, match="not UTF-8"):
        parse_word("run=\udcff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        environment_settings({"METTA_RUN": "a\udcff"})


def test_a_word_is_its_own_origin():
    assert [setting.origin for setting in parse_word("sim={episodes: 3, render: true}")] == [
        "sim={episodes: 3, render: true}"
    ] * 2


def test_variables_spell_dots_as_two_underscores():
    environ = {"METTA_TRAINER__TOTAL_TIMESTEPS": "1_000", "METTA_WANDB": "off", "HOME": "/", "XMETTA_A": "1"}
    settings = environment_settings(environ)
    assert pairs(settings) == [("trainer.total_timesteps", 1000), ("wandb", "off")]
    assert settings[0].origin == "METTA_TRAINER__TOTAL_TIMESTEPS"


@pytest.mark.parametrize(
    "name", ["METTA_LOG_LEVEL", "METTA_LOAD_PLUGINS", "METTA_DEBUG", "METTA_BUCKET", "METTA_HOURLY_COST"]
)
def test_variables_of_the_program_are_left_to_it(name):
    assert environment_settings({name: "1"}) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("METTA_TRAINER__TOTAL_TIMESTEP", "METTA_TRAINER__TOTAL_TIMESTEPS"),
        ("METTA_TRAINER_NUM_WORKERS", "METTA_TRAINER__NUM_WORKERS"),
        ("METTA_LOGLEVEL", "METTA_LOG_LEVEL"),
        ("METTA_DATADIR", "METTA_DATA_DIR"),
        ("METTA_RNU", "METTA_RUN"),
    ],
)
def test_a_variable_that_sets_nothing_is_refused_with_the_one_that_was_meant(name, meant):
    with pytest.raises(ConfigError, match=f"{name} sets nothing") as error:
        environment_settings({name: "1"})
    assert f"{meant}?" in error.value.cure or f"{meant} or" in error.value.cure


def test_options_that_were_not_given_set_nothing():
    settings = option_settings({"seed": 0, "run": None, "sim.suite": "laser_tag", "sim.num_workers": 2})
    assert pairs(settings) == [("seed", 0), ("sim.suite", "laser_tag"), ("sim.num_workers", 2)]
    assert [setting.origin for setting in settings] == ["--seed", "--suite", "--workers"]
