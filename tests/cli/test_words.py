"""Words that are neither options nor values of options."""

from pathlib import Path

import pytest

from metta_cli.cli.words import is_setting, require_settings, split_uri
from metta_cli.errors import UsageError


@pytest.mark.parametrize(
    "word", ["run=x", "+user=me", "trainer.ppo.gamma=0.9", "policy_uri=wandb://a/b=c", "x-y=1", "a="]
)
def test_settings(word):
    assert is_setting(word)


@pytest.mark.parametrize(
    "word", ["random", "train_dir/a=b", "./a=b", "s3://bucket/a?version=3", "file:a=b", "=", "=x", "1=2"]
)
def test_everything_else(word):
    assert not is_setting(word)


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["navigation/simple"], "did you mean env=navigation/simple?"),
        (["navigation/simpel"], "did you mean env=navigation/simple?"),
        (["terrain_large"], "did you mean env=navigation/terrain_large?"),
        (["fast"], "did you mean policy=fast?"),
        (["mine.yaml"], "did you mean --config mine.yaml?"),
        (["navigation/simple=env"], "did you mean env=navigation/simple?"),
        (["run", "=", "x"], "write KEY=VALUE without blanks around the '='"),
        (
            ["run=x", "zzzzzz"],
            "see 'metta configs list' for names, and 'metta train --print-config' for keys",
        ),
    ],
)
def test_a_word_that_is_no_setting_gets_what_was_probably_meant(words, cure):
    with pytest.raises(UsageError) as caught:
        require_settings(words)
    assert caught.value.cure == cure


def test_the_uri_may_stand_anywhere_between_the_settings():
    assert split_uri(["seed=3", "train_dir/a:v3", "sim.episodes=5"]) == (
        "train_dir/a:v3",
        ["seed=3", "sim.episodes=5"],
    )
    assert split_uri(["seed=3"]) == (None, ["seed=3"])
    assert split_uri([]) == (None, [])


@pytest.mark.parametrize(
    ("words", "message", "cure"),
    [
        (["random", "navigation"], "'navigation' is no policy", "did you mean --suite navigation?"),
        (["navigation/simple"], "'navigation/simple' is no policy", "did you mean --env navigation/simple?"),
        (
            ["a", "b"],
            "one policy is evaluated at a time, and there are 2: a, b",
            "settings are written KEY=VALUE",
        ),
        (["a", "seed", "=", "3"], "there are 4", "write KEY=VALUE without blanks around the '='"),
    ],
)
def test_what_is_no_uri_is_told(words, message, cure):
    with pytest.raises(UsageError) as caught:
        split_uri(words)
    assert message in caught.value.message
    assert caught.value.cure == cure


def test_a_run_may_be_called_like_a_suite(monkeypatch):
    Path("train_dir/navigation/checkpoints").mkdir(parents=True)
    assert split_uri(["navigation"]) == ("navigation", [])
    Path("laser_tag").mkdir()
    assert split_uri(["laser_tag"]) == ("laser_tag", [])
