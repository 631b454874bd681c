"""The layers: which wins, where a value came from, what a mistake reads like."""

import pytest

from metta_cli.config.keys import setting_names
from metta_cli.config.layers import load_config
from metta_cli.errors import ConfigError


@pytest.fixture
def layers(write):
    """One source per layer, each of which sets the seed; from the lowest up."""
    write("seed: 10\n", "configs/user/me.yaml")
    write("seed: 11\n", "first.yaml")
    write("\nseed: 12\n", "second.yaml")
    return [
        ("words", ["user=me"], "configs/user/me.yaml:1", 10),
        ("files", ["first.yaml"], "first.yaml:1", 11),
        ("files", ["second.yaml"], "second.yaml:2", 12),
        ("environ", {"METTA_SEED": "13"}, "METTA_SEED", 13),
        ("words", ["seed=14"], "seed=14", 14),
        ("options", {"seed": 15}, "--seed", 15),
    ]


@pytest.mark.parametrize("highest", range(6))
def test_each_layer_wins_over_those_below(layers, highest):
    inputs = {"files": [], "words": [], "options": {}, "environ": {}}
    for name, values, _, _ in layers[: highest + 1]:
        inputs[name] = {**inputs[name], **values} if isinstance(values, dict) else inputs[name] + values
    resolved = load_config(**inputs)
    *_, origin, seed = layers[highest]
    assert resolved.config.seed == seed
    assert resolved.origins["seed"] == origin


def test_what_nobody_sets_is_the_default_of_the_code():
    resolved = load_config()
    assert resolved.config.seed == 1
    assert resolved.origins["seed"] == "default"


def test_every_value_is_explained_once_with_its_origin():
    rows = load_config(words=["env=laser_tag", "trainer.ppo.gamma=0.5"]).explain()
    keys = [key for key, _, _ in rows]
    assert len(keys) == len(set(keys))
    below_null = ("sim.suite.", "evals.", "trainer.curriculum.", "trainer.dual_policy.checkpoint_npc.")
    below_null += ("trainer.hyperparameter_scheduler.",)
    with_content = {"env.args", "policy.args"}
    expected = {key for key in setting_names() if not key.startswith(below_null)} - with_content
    assert expected <= set(keys)
    explained = {key: (value, origin) for key, value, origin in rows}
    assert explained["trainer.ppo.gamma"] == (0.5, "trainer.ppo.gamma=0.5")
    assert explained["env.builder"] == ("laser_tag", "shipped env/laser_tag.yaml:2")
    assert explained["env.name"] == ("laser_tag", "env=laser_tag")


def test_what_a_suite_hands_down_has_the_origin_of_the_suite(write):
    write("name: mine\nnum_episodes: 4\nsimulations:\n  a: {env: laser_tag}\n", "configs/suite/mine.yaml")
    origins = load_config(words=["sim.suite=mine"]).origins
    assert origins["sim.suite.simulations.a.num_episodes"] == "configs/suite/mine.yaml:2"
    assert origins["sim.suite.simulations.a.env"] == "configs/suite/mine.yaml:4"


def test_only_what_a_user_set_counts_as_chosen(write):
    write("trainer: {ppo: {gamma: 0.5}}\n")
    resolved = load_config(files=["mine.yaml"], words=["sim.suite=laser_tag"])
    assert resolved.is_chosen("trainer.ppo.gamma")
    assert resolved.is_chosen("trainer.ppo")
    assert resolved.is_chosen("sim.suite")
    assert not resolved.is_chosen("env")
    assert not resolved.is_chosen("trainer.batch_size")
    assert not resolved.is_chosen("trainer.ppo.gam")


@pytest.mark.parametrize(
    ("words", "cuda_available", "hardware"),
    [
        ([], False, "cpu"),
        ([], True, "gpu"),
        (["device=cpu"], True, "cpu"),
        (["device=cuda:1"], False, "gpu"),
        (["hardware=local_debug"], True, "local_debug"),
    ],
)
def test_sizes_suit_the_device_unless_hardware_is_set(words, cuda_available, hardware):
    config = load_config(words=words, cuda_available=cuda_available).config
    sizes = {"cpu": 16_384, "gpu": 524_288, "local_debug": 1_024}
    assert (config.hardware, config.trainer.batch_size) == (hardware, sizes[hardware])


def test_sizes_for_the_machine_lie_under_everything_that_a_user_sets(write):
    write("defaults: [/common, /trainer/trainer]\ntrainer: {batch_size: 8192}\n")
    trainer = load_config(files=["mine.yaml"], environ={"METTA_TRAINER__BPTT_HORIZON": "16"}).config.trainer
    assert (trainer.batch_size, trainer.minibatch_size, trainer.bptt_horizon) == (8192, 4096, 16)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["env=laser_tag", "sim.suite=full_eval", "evals=navigation", "hardware=local_debug"],
        ["run=007", "wandb.tags=['1e3', '2', 'off']", "policy=mine", "policy.args.x={a: [1, {b: null}]}"],
        ["trainer.optimizer.eps=1e-12", "pytorch._target_=a.b", "trainer.simulation.evaluate_interval=0"],
        ["trainer.kickstart.additional_teachers=[{teacher_uri: x}]", "env.args={size: 13, '1': x}"],
    ],
)
def test_a_resolved_configuration_is_read_back_the_same(write, words):
    original = load_config(words=words)
    write(original.to_yaml(), "saved.yaml")
    again = load_config(files=["saved.yaml"], cuda_available=True)
    merged_already = {"user": None, "hardware": None}
    assert again.config.model_copy(update=merged_already) == original.config.model_copy(update=merged_already)
    assert again.to_yaml() == original.to_yaml()


def test_a_saved_configuration_needs_no_user_file(write, directory):
    write("seed: 5\n", "configs/user/me.yaml")
    text = load_config(words=["user=me"]).to_yaml()
    (directory / "configs/user/me.yaml").unlink()
    write(text, "saved.yaml")
    assert load_config(files=["saved.yaml"]).config.seed == 5


@pytest.mark.parametrize(
    ("words", "message", "cure"),
    [
        (["trainer.num_workers=abc"], "trainer.num_workers=abc: should be a valid integer", "Processes"),
        (["trainer.num_workers=true"], "trainer.num_workers=true: should be a number", "Processes"),
        (["trainer.ppo.gamma=2"], "trainer.ppo.gamma=2: should be less than or equal to 1", "Discount"),
        (["device=tpu"], "device=tpu: should be auto, cpu, mps, cuda or cuda:N", "Where the policy computes"),
        (["cmd=trian"], "cmd=trian: should be 'train', ", "subcommand"),
        (["trainer.ppo=3"], "trainer.ppo=3: it is a section", "clip_coef, ent_coef"),
        (["env=null"], "env=null: it is a section", "give a name, or set one of its keys"),
        (["env.builder=null"], "env.builder=null: should be a valid string", "builder"),
        (["trainer.batchsize=3"], "unknown key 'trainer.batchsize'", "did you mean 'trainer.batch_size'"),
        (["batch_size=3"], "unknown key 'batch_size'", "did you mean 'trainer.batch_size'?"),
        (["trainr.batch_size=3"], "unknown key 'trainr.batch_size'", "did you mean 'trainer.batch_size'?"),
        (["polcy=fast"], "unknown key 'polcy'", "did you mean 'policy'"),
        (["seed.x=3"], "unknown key 'seed.x'", "'seed' has a value and no keys below it"),
        (["hydra.job.name=3"], "unknown key 'hydra.job.name'", "hydra.run.dir"),
        (["xyz=3"], "unknown key 'xyz'", "keys here: run, "),
    ],
)
def test_a_mistake_reads_as_one_line_and_a_cure(words, message, cure):
    with pytest.raises(ConfigError) as error:
        load_config(words=words)
    assert error.value.message.startswith(message)
    assert cure in error.value.cure
    assert "\n" not in str(error.value)


def test_a_mistake_in_a_file_names_file_and_line(write):
    write("run: x\ntrainer:\n  ppo:\n    gamma: high\n")
    with pytest.raises(
        ConfigError, match=r"trainer.ppo.gamma = high \(mine.yaml:4\): should be a valid number"
    ):
        load_config(files=["mine.yaml"])


def test_a_broken_rule_names_both_values_and_where_they_are_from(write):
    write("trainer:\n  batch_size: 1000\n")
    with pytest.raises(ConfigError) as error:
        load_config(files=["mine.yaml"])
    assert "minibatch_size (4096) must divide batch_size (1000)" in error.value.message
    assert "trainer.batch_size = 1000 (mine.yaml:2)" in error.value.message
    assert "shipped hardware/cpu.yaml:" in error.value.message
    assert error.value.cure == "change trainer.minibatch_size or trainer.batch_size"


def test_several_mistakes_are_counted():
    with pytest.raises(ConfigError, match=r"seed=-1: .*; 2 more mistakes"):
        load_config(words=["seed=-1", "trainer.ppo.gamma=2", "trainer.num_workers=x"])


def test_what_follows_from_a_mistake_is_not_counted():
    with pytest.raises(ConfigError) as error:
        load_config(words=["trainer.checkpoint.checkpoint_interval=x"])
    assert "more mistake" not in error.value.message


def test_a_missing_value_says_where_its_neighbours_are(write):
    write("sim:\n  suite:\n    simulations: {a: {env: x}}\n")
    with pytest.raises(ConfigError, match=r"sim.suite.name is missing \(mine.yaml:3\)"):
        load_config(files=["mine.yaml"])


def test_text_fields_take_what_looks_like_a_number():
    config = load_config(
        words=["run=007", "wandb.project=1e3", "wandb.group=true", "wandb.notes=null"]
    ).config
    assert (config.run, config.wandb.project, config.wandb.group) == ("007", "1e3", "true")
    assert config.wandb.notes is None


def test_an_option_that_selects_a_file_keeps_the_words_beside_it():
    config = load_config(words=["env.args.max_steps=7"], options={"env": "laser_tag"}).config
    assert (config.env.name, config.env.args["max_steps"]) == ("laser_tag", 7)
    assert (
        load_config(words=["env=navigation/simple"], options={"env": "laser_tag"}).config.env.name
        == "laser_tag"
    )


def test_an_option_that_selects_a_file_replaces_what_lower_layers_say_of_another(write):
    write("env: laser_tag\n", "mine.yaml")
    config = load_config(files=["mine.yaml"], options={"env": "navigation/simple"}).config
    assert config.env.args == load_config(words=["env=navigation/simple"]).config.env.args
