"""`TrainerConfig`: the documented names, defaults and rules, and the settings that nothing acts upon yet."""

import pytest
from pydantic import ValidationError

from metta_cli.config.trainer import UNSUPPORTED, TrainerConfig, unsupported_settings, why_unsupported

# As Metta had them in July and August 2025; where the two differ, those of August.
DOCUMENTED_DEFAULTS = {
    "total_timesteps": 50_000_000_000,
    "batch_size": 524_288,
    "minibatch_size": 16_384,
    "bptt_horizon": 64,
    "update_epochs": 1,
    "scale_batches_by_world_size": False,
    "forward_pass_minibatch_target_size": 4096,
    "async_factor": 2,
    "zero_copy": True,
    "require_contiguous_env_ids": False,
    "verbose": True,
    "cpu_offload": False,
    "compile": False,
    "compile_mode": "reduce-overhead",
    "grad_mean_variance_interval": 0,
    "system_monitor_interval": 10,
    "optimizer.type": "adam",
    "optimizer.learning_rate": 0.000457,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.eps": 1e-12,
    "optimizer.weight_decay": 0,
    "ppo.clip_coef": 0.1,
    "ppo.ent_coef": 0.0021,
    "ppo.gae_lambda": 0.916,
    "ppo.gamma": 0.977,
    "ppo.max_grad_norm": 0.5,
    "ppo.vf_clip_coef": 0.1,
    "ppo.vf_coef": 0.44,
    "ppo.l2_reg_loss_coef": 0,
    "ppo.l2_init_loss_coef": 0,
    "ppo.norm_adv": True,
    "ppo.clip_vloss": True,
    "ppo.target_kl": None,
    "prioritized_experience_replay.prio_alpha": 0,
    "prioritized_experience_replay.prio_beta0": 0.6,
    "vtrace.vtrace_rho_clip": 1.0,
    "vtrace.vtrace_c_clip": 1.0,
    "initial_policy.uri": None,
    "initial_policy.type": "top",
    "initial_policy.range": 1,
    "initial_policy.metric": "epoch",
    "initial_policy.filters": {},
    "checkpoint.checkpoint_interval": 5,
    "checkpoint.wandb_checkpoint_interval": 5,
    "checkpoint.checkpoint_dir": None,
    "simulation.evaluate_interval": 50,
    "simulation.evaluate_local": True,
    "simulation.skip_git_check": False,
    "simulation.git_hash": None,
    "simulation.simulations": [],
    "simulation.num_training_tasks": 1,
    "kickstart.teacher_uri": None,
    "kickstart.action_loss_coef": 1,
    "kickstart.value_loss_coef": 1,
    "kickstart.anneal_ratio": 0.65,
    "kickstart.kickstart_steps": 1_000_000_000,
    "kickstart.additional_teachers": None,
    "profiler.interval_epochs": 0,
    "hyperparameter_scheduler.learning_rate_schedule": None,
    "hyperparameter_scheduler.ppo_clip_schedule": None,
    "hyperparameter_scheduler.ppo_ent_coef_schedule": None,
    "hyperparameter_scheduler.ppo_vf_clip_schedule": None,
    "hyperparameter_scheduler.ppo_l2_reg_loss_schedule": None,
    "hyperparameter_scheduler.ppo_l2_init_loss_schedule": None,
    "curriculum_server.port": 12346,
    "lr_scheduler.enabled": False,
    "dual_policy.enabled": False,
    "dual_policy.policy_a_percentage": 0.5,
    "dual_policy.npc_type": "scripted",
}


def value_of(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


@pytest.mark.parametrize("key", DOCUMENTED_DEFAULTS)
def test_default_is_the_documented_one(key):
    assert value_of(TrainerConfig(), key) == DOCUMENTED_DEFAULTS[key]


def test_sizes_of_the_library_documentation_fit_the_other_defaults():
    config = TrainerConfig(total_timesteps=10_000_000, batch_size=16384, minibatch_size=512)
    assert (config.batch_size, config.minibatch_size, config.bptt_horizon) == (16384, 512, 64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 1000}, r"minibatch_size \(16384\) must divide batch_size \(1000\)"),
        ({"batch_size": 8192}, r"minibatch_size \(16384\) must divide batch_size \(8192\)"),
        ({"minibatch_size": 1000, "batch_size": 3500}, r"minibatch_size \(1000\) must divide"),
        ({"bptt_horizon": 100}, r"bptt_horizon \(100\) must divide minibatch_size \(16384\)"),
        (
            {"checkpoint": {"checkpoint_interval": 10, "wandb_checkpoint_interval": 9}},
            r"wandb_checkpoint_interval \(9\) must be at least checkpoint_interval \(10\)",
        ),
        (
            {"simulation": {"evaluate_interval": 4}},
            r"evaluate_interval \(4\) must be at least checkpoint.checkpoint_interval \(5\)",
        ),
        (
            {"checkpoint": {"wandb_checkpoint_interval": 60}},
            r"evaluate_interval \(50\) must be at least checkpoint.wandb_checkpoint_interval \(60\)",
        ),
        ({"dual_policy": {"enabled": True, "npc_type": "checkpoint"}}, "needs checkpoint_npc"),
        ({"dual_policy": {"checkpoint_npc": {}}}, "exactly one of"),
        ({"dual_policy": {"checkpoint_npc": {"checkpoint_path": "a", "policy_uri": "b"}}}, "exactly one of"),
    ],
)
def test_rules_across_fields_hold(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainerConfig(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"simulation": {"evaluate_interval": 0}, "checkpoint": {"checkpoint_interval": 1000}},
        {"checkpoint": {"checkpoint_interval": 10, "wandb_checkpoint_interval": 0}},
        {"checkpoint": {"checkpoint_interval": 0, "wandb_checkpoint_interval": 5}},
        {"dual_policy": {"npc_type": "checkpoint"}},
        {"dual_policy": {"enabled": True, "npc_type": "checkpoint", "npc_policy_uri": "x"}},
    ],
)
def test_zero_switches_an_interval_and_its_rules_off(values):
    TrainerConfig(**values)


def test_uploads_follow_the_checkpoints_unless_they_are_set():
    assert TrainerConfig(checkpoint={"checkpoint_interval": 20}).checkpoint.wandb_checkpoint_interval == 20
    assert TrainerConfig(checkpoint={"checkpoint_interval": 2}).checkpoint.wandb_checkpoint_interval == 5


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("optimizer.learning_rate", 0),
        ("optimizer.learning_rate", 1.5),
        ("optimizer.type", "sgd"),
        ("ppo.clip_coef", 0),
        ("ppo.clip_coef", 1.1),
        ("ppo.gamma", -0.1),
        ("ppo.gamma", float("nan")),
        ("ppo.max_grad_norm", float("inf")),
        ("prioritized_experience_replay.prio_alpha", 1.1),
        ("prioritized_experience_replay.prio_beta0", -0.1),
        ("vtrace.vtrace_rho_clip", 0),
        ("vtrace.vtrace_c_clip", 0),
        ("dual_policy.policy_a_percentage", 1.1),
        ("kickstart.anneal_ratio", 1.1),
        ("compile_mode", "fast"),
        ("sampling", "random"),
        ("num_workers", -1),
        ("num_workers", True),
        ("total_timesteps", 0),
        ("total_timesteps", 1.5),
        ("ppo.gamma", True),
        ("no_such_field", 1),
        ("ppo.no_such_field", 1),
    ],
)
def test_values_that_make_no_sense_are_refused(key, bad):
    with pytest.raises(ValidationError):
        TrainerConfig(**nested(key, bad))


def test_assignments_are_checked():
    config = TrainerConfig()
    with pytest.raises(ValidationError):
        config.ppo.gamma = 2
    with pytest.raises(ValidationError):
        config.batch_size = 1000


def test_two_configurations_share_nothing():
    one, other = TrainerConfig(), TrainerConfig()
    one.ppo.gamma = 0.5
    assert other.ppo.gamma == TrainerConfig().ppo.gamma == 0.977


def test_evaluation_and_rollout_workers_are_other_names():
    config = TrainerConfig(evaluation={"evaluate_interval": 70}, rollout_workers=3)
    assert (config.simulation.evaluate_interval, config.num_workers) == (70, 3)
    with pytest.raises(ValidationError):
        TrainerConfig(evaluation={}, simulation={})


def test_nothing_is_unsupported_in_the_defaults():
    assert unsupported_settings(TrainerConfig()) == []


def test_what_this_version_acts_upon_is_supported():
    config = TrainerConfig(
        total_timesteps=1,
        batch_size=128,
        minibatch_size=64,
        bptt_horizon=8,
        update_epochs=3,
        sampling="sequential",
        bootstrap_truncations=False,
        forward_pass_minibatch_target_size=7,
        num_workers=2,
        optimizer={"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.5, "eps": 1e-5, "weight_decay": 0.1},
        ppo={"gamma": 0.5, "target_kl": 0.1, "norm_adv": False, "clip_vloss": False},
        prioritized_experience_replay={"prio_alpha": 1, "prio_beta0": 1},
        vtrace={"vtrace_rho_clip": 2, "vtrace_c_clip": 2},
        initial_policy={"uri": "x"},
        checkpoint={"checkpoint_interval": 20, "keep": 0},
        simulation={"evaluate_interval": 100},
    )
    assert unsupported_settings(config) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("compile", True),
        ("cpu_offload", True),
    ],
)
def test_a_setting_that_nothing_acts_upon_is_named(key, value):
    assert unsupported_settings(TrainerConfig(**nested(key, value))) == [f"trainer.{key}"]


def test_the_reason_of_a_refused_setting_is_that_of_its_part():
    assert why_unsupported("trainer.curriculum_server.port") == UNSUPPORTED["curriculum_server"]
    assert why_unsupported("trainer.zero_copy") == UNSUPPORTED["zero_copy"]


def test_the_list_of_unsupported_settings_names_settings_that_exist():
    assert len(set(UNSUPPORTED)) == len(UNSUPPORTED)
    for key in UNSUPPORTED:
        value_of(TrainerConfig(), key)


def test_every_field_says_what_it_is():
    def undocumented(model, prefix=""):
        for name, field in model.model_fields.items():
            if not field.description:
                yield prefix + name
            if hasattr(field.annotation, "model_fields"):
                yield from undocumented(field.annotation, f"{prefix}{name}.")

    assert list(undocumented(TrainerConfig)) == []
