"""Who plays against the learner, in every spelling that a configuration may use."""

import pytest
import yaml

from metta_cli.config.layers import load_config

SECTION = "trainer.dual_policy"


def dual_policy(*words):
    return load_config(words=[f"{SECTION}.{word}" for word in words]).config.trainer.dual_policy


@pytest.mark.parametrize(
    ("word", "uri"),
    [
        ("checkpoint_npc.checkpoint_path=a", "a"),
        ("checkpoint_npc.policy_uri=a", "a"),
        ("checkpoint_npc.uri=a", "a"),
        ("npc_policy_uri=a", "a"),
        ("opponents=[a]", "a"),
        ("enabled=false", None),
    ],
)
def test_the_opponent_has_an_address_in_every_spelling(word, uri):
    assert dual_policy("enabled=true", word).npc_uri == uri


def test_a_checkpoint_that_is_named_is_not_left_out_for_a_script():
    named = dual_policy("enabled=true", "checkpoint_npc.checkpoint_path=a")
    assert named.npc_type == "checkpoint"
    switched_off = dual_policy("enabled=true", "checkpoint_npc.checkpoint_path=a", "npc_type=scripted")
    assert switched_off.npc_uri is None


def test_the_later_spelling_of_the_share_means_the_same():
    assert dual_policy("training_agents_pct=0.25").policy_a_percentage == 0.25


def test_what_was_inferred_is_saved_with_the_run(tmp_path):
    resolved = load_config(words=[f"{SECTION}.enabled=true", f"{SECTION}.checkpoint_npc.policy_uri=a"])
    saved = tmp_path / "config.yaml"
    saved.write_text(resolved.to_yaml())
    assert yaml.safe_load(saved.read_text())["trainer"]["dual_policy"]["npc_type"] == "checkpoint"
    assert load_config(files=[str(saved)]).config.trainer.dual_policy.npc_uri == "a"
