"""A student learns from teachers, what they would have done in the very states that it lived through."""

import math

import pytest
import torch
from torch import nn

from metta_cli.algorithms.distillation import kickstart_factor
from metta_cli.config.trainer import TrainerConfig
from metta_cli.policies.registry import create_policy
from metta_cli.training.kickstarter import Kickstarter, Teacher
from metta_cli.training.optimizers import create_optimizer
from metta_cli.training.trainer import Trainer
from tests.learning.toys import CUE, GO, CueTask

DELAY = 3
CONFIG = TrainerConfig(
    total_timesteps=20_480,
    batch_size=1024,
    minibatch_size=512,
    bptt_horizon=16,
    update_epochs=4,
    sampling="sequential",
    optimizer={"learning_rate": 3e-3, "eps": 1e-8},
    ppo={"ent_coef": 0.0, "gamma": 0.9},
)


class CueTeacher(nn.Module):
    """Remembers the cue in its recurrent state and, when it is to choose, does what the cue said.

    Args:
        value: what it says of every state.
        sharpness: logit of the action that it wants.
    """

    def __init__(self, value=0.5, sharpness=8.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.sharpness = sharpness

    def initial_state(self, num_agents, device):
        return {"cue": torch.zeros(1, num_agents, 1, device=device)}

    def forward(self, td, state=None, action=None):
        assert action is None
        observations = td["env_obs"]
        memory = state["cue"][0, :, 0]
        memory *= ~td["dones"]
        is_cue = (observations[:, :, 0] != 255) & (observations[:, :, 1] == CUE)
        shown = (observations[:, :, 2] * is_cue).sum(1)
        memory.copy_(torch.where(shown > 0, shown.float(), memory))
        goes = ((observations[:, :, 0] != 255) & (observations[:, :, 1] == GO)).any(1)
        wanted = torch.where(goes, memory.long(), 0)
        logits = self.sharpness * nn.functional.one_hot(wanted, 3).float()
        td["full_log_probs"] = logits.log_softmax(-1)
        td["actions"] = torch.multinomial(logits.softmax(-1), 1).squeeze(1)
        td["values"] = self.value.expand(len(observations))
        return td


def kickstarter_of(*teachers, steps=10**9, ratio=0.5):
    named = [
        teacher if isinstance(teacher, Teacher) else Teacher(str(number), teacher)
        for number, teacher in enumerate(teachers)
    ]
    return Kickstarter(named, kickstart_steps=steps, anneal_ratio=ratio, device="cpu")


def trainer_with(kickstarter, config=CONFIG):
    torch.manual_seed(0)
    environment = CueTask(num_agents=16, delay=DELAY)
    policy = create_policy("fast", environment.interface, {})
    return Trainer(
        config,
        environment=environment,
        policy=policy,
        optimizer=create_optimizer(config, policy),
        device=torch.device("cpu"),
        kickstarter=kickstarter,
    )


def losses_of(kickstarter, experience, agent_steps=0):
    """The kickstarter's scalars for a student of uniform actions and values 0, over all segments."""
    minibatch = next(experience.iter_minibatches())
    shape = minibatch.actions.shape
    outputs = {
        "full_log_probs": torch.full((*shape, 3), -math.log(3.0)),
        "value": torch.zeros(shape),
    }
    return kickstarter.loss(experience, minibatch, outputs, agent_steps)


@pytest.fixture
def experience():
    return trainer_with(None).collect()[0]


def test_a_student_agrees_with_its_teacher_and_so_solves_the_task():
    ppo = CONFIG.ppo.model_copy(update={"vf_coef": 0.0})
    trainer = trainer_with(kickstarter_of(CueTeacher()), CONFIG.model_copy(update={"ppo": ppo}))
    agreements = []
    trainer.train(lambda _, metrics: agreements.append(metrics["losses/ks_agreement"]))
    assert agreements[0] < 0.9
    assert agreements[-1] >= 0.95
    returns = list(trainer.recent_returns)
    assert sum(returns) / len(returns) > 0.9  # chance is 1/3; it takes the memory of the cue


def test_the_teacher_remembers_across_segments_and_epochs():
    trainer = trainer_with(None)
    kickstarter = kickstarter_of(CueTeacher())
    teacher, state, checked = CueTeacher(), CueTeacher().initial_state(16, "cpu"), 0
    for _ in range(2):
        experience, _ = trainer.collect()
        losses_of(kickstarter, experience)
        lesson = kickstarter._lessons["0"]
        for chunk in range(experience.num_chunks):
            rows = experience.rows(chunk)
            for step in range(experience.bptt_horizon):
                td = {
                    "env_obs": experience.observations[rows, step],
                    "dones": experience.dones[rows, step],
                }
                expected = teacher(td, state)["full_log_probs"]
                assert torch.equal(lesson.log_probs[rows, step], expected)
                checked += int((expected.argmax(-1) > 0).sum())
    assert checked > 100  # it did choose, with what it remembered
    assert experience.num_chunks > 1


def test_two_teachers_add_up_and_do_not_compound(experience):
    one, two = CueTeacher(value=1.0), CueTeacher(value=3.0)
    alone = [
        losses_of(kickstarter_of(Teacher("t", teacher, *coefs)), experience)[0].item()
        for teacher, coefs in ((one, (0.5, 2.0)), (two, (0.25, 0.1)))
    ]
    both = losses_of(kickstarter_of(Teacher("a", one, 0.5, 2.0), Teacher("b", two, 0.25, 0.1)), experience)[0]
    assert both.item() == pytest.approx(sum(alone), rel=1e-5)


def test_the_value_loss_is_the_mean_square_and_not_a_table(experience):
    _, measured = losses_of(kickstarter_of(CueTeacher(value=2.0)), experience)
    assert measured["ks_value_loss"].item() == pytest.approx(4.0)


@pytest.mark.parametrize("agent_steps", [0, 600, 999, 1000, 2000])
def test_the_losses_fade_by_the_documented_factor(experience, agent_steps):
    full = losses_of(kickstarter_of(CueTeacher(), steps=1000), experience)[0].item()
    now = losses_of(kickstarter_of(CueTeacher(), steps=1000), experience, agent_steps)[0].item()
    assert now == pytest.approx(full * kickstart_factor(agent_steps, 1000, 0.5), rel=1e-5)


def test_teachers_get_no_gradients_and_do_not_change():
    teacher = CueTeacher()
    trainer = trainer_with(kickstarter_of(teacher), CONFIG.model_copy(update={"total_timesteps": 2048}))
    trainer.train()
    assert teacher.value.grad is None
    assert teacher.value.item() == 0.5


def test_a_teacher_does_not_disturb_the_random_numbers_of_the_student():
    config = CONFIG.model_copy(update={"total_timesteps": 2048})
    weightless = Teacher("t", CueTeacher(), 0.0, 0.0)
    plain = trainer_with(None, config)
    plain.train()
    taught = trainer_with(kickstarter_of(weightless), config)
    taught.train()
    for name, part in plain.policy.state_dict().items():
        assert torch.equal(part, taught.policy.state_dict()[name]), name
