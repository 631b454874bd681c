"""The gradient steps of one epoch: the right formulas on the right columns, put together the right way."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_close
from references import categorical, ppo, replay, vtrace
from torch import nn

from metta_cli.config.trainer import TrainerConfig
from metta_cli.errors import ConfigError, MettaError
from metta_cli.training.experience import Experience
from metta_cli.training.optimizers import Optimizer
from metta_cli.training.regularization import InitialWeights
from metta_cli.training.update import (
    Losses,
    Update,
    minibatches_of,
    process_minibatch_update,
    refresh_values,
)

SEGMENTS, HORIZON, STATES, ACTIONS = 8, 6, 16, 3
# No two settings share a value, so that none can stand in for another.
SETTINGS = {
    "total_timesteps": 1000,
    "batch_size": SEGMENTS * HORIZON,
    "minibatch_size": 4 * HORIZON,
    "bptt_horizon": HORIZON,
    "sampling": "sequential",
    "ppo": {
        "clip_coef": 0.15,
        "ent_coef": 0.03,
        "gae_lambda": 0.85,
        "gamma": 0.95,
        "vf_clip_coef": 0.25,
        "vf_coef": 0.6,
        "max_grad_norm": 0.5,
    },
    "vtrace": {"vtrace_rho_clip": 1.1, "vtrace_c_clip": 0.9},
    "prioritized_experience_replay": {"prio_alpha": 0.7},
}


class Table(nn.Module):
    """A policy without memory: one row of logits and one value per observed number."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Parameter(torch.randn(STATES, ACTIONS))
        self.value = nn.Parameter(torch.randn(STATES))

    def forward(self, td, state=None, action=None):
        seen = td["env_obs"][..., 0, 0].long()
        log_probs = self.logits[seen].log_softmax(-1)
        td["act_log_prob"] = log_probs.gather(-1, action[..., None])[..., 0]
        td["entropy"] = -(log_probs.exp() * log_probs).sum(-1)
        td["value"] = self.value[seen]
        return td


def flat(rows):
    return [entry for row in rows for entry in row]


def config_of(ppo=(), **changes):
    return TrainerConfig.model_validate(SETTINGS | {"ppo": SETTINGS["ppo"] | dict(ppo)} | changes)


def filled_experience(seed=0):
    """Return an experience of a policy that is not quite `Table`, with dones and every token in use."""
    experience = Experience(
        total_agents=SEGMENTS,
        batch_size=SEGMENTS * HORIZON,
        bptt_horizon=HORIZON,
        minibatch_size=4 * HORIZON,
        obs_space=(1, 3),
        atn_space=ACTIONS,
        device="cpu",
    )
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, scale):
        return torch.randn(tensor.shape, generator=generator) * scale

    def integers(tensor, high):
        return torch.randint(0, high, tensor.shape, generator=generator)

    experience.observations[:] = integers(experience.observations, STATES).byte()
    experience.actions[:] = integers(experience.actions, ACTIONS)
    seen, policy = experience.observations[:, :, 0, 0].long(), Table()
    log_probs = policy.logits.detach().log_softmax(-1)[seen, experience.actions]
    experience.behavior_log_probs[:] = log_probs + normal(log_probs, 0.3)
    experience.values[:] = normal(experience.values, 1.0)
    experience.values[:, :-1] = policy.value.detach()[seen] + normal(log_probs, 0.3)
    experience.rewards[:] = normal(experience.rewards, 1.0)
    experience.terminals[:] = integers(experience.terminals, 6) == 0
    experience.truncations[:] = integers(experience.truncations, 6) == 0
    return experience


def sgd(policy, lr, max_grad_norm=0.5):
    """Return an optimizer whose steps are as long as its gradients."""
    optimizer = Optimizer("adam", policy, max_grad_norm=max_grad_norm)
    optimizer.optimizers = [torch.optim.SGD(policy.parameters(), lr=lr)]
    return optimizer


def updated(policy, optimizer, experience, config, **changes):
    return Update(policy, optimizer, experience, config, beta=1.0, device="cpu", **changes).run()


def loss_of(policy, experience, minibatch, advantages, config, kickstarter=None, agent_step=0, start=None):
    """Return the loss of a minibatch and what was measured."""
    losses = Losses()
    loss = process_minibatch_update(
        policy, experience, minibatch, advantages, config, kickstarter, agent_step, losses, "cpu", start
    )
    return loss, losses.steps[-1]


def some_advantages():
    return torch.randn(SEGMENTS, HORIZON, generator=torch.Generator().manual_seed(1))


def advantages_by_loops(values, rewards, dones, ratio, config):
    """Return the advantages of every step; the segments have one column more than steps."""
    options = {
        "gamma": config.ppo.gamma,
        "gae_lambda": config.ppo.gae_lambda,
        "rho_clip": config.vtrace.vtrace_rho_clip,
        "c_clip": config.vtrace.vtrace_c_clip,
    }
    rows = zip(values.tolist(), rewards.tolist(), dones.tolist(), ratio, strict=True)
    return [vtrace.vtrace_error(*row, **options) for row in rows]


def expected_measures(policy, minibatch, returns, config):
    """Return the loss of a minibatch and its parts from the references, for one weight per segment."""
    seen = minibatch.observations[:, :, 0, 0].tolist()
    logits, values = policy.logits.tolist(), policy.value.tolist()
    probabilities = [categorical.probabilities(row, [True] * ACTIONS) for row in logits]
    new = [
        [math.log(probabilities[state][action]) for state, action in zip(*row, strict=True)]
        for row in zip(seen, minibatch.actions.tolist(), strict=True)
    ]
    old = minibatch.behavior_log_probs.tolist()
    ratio = [[math.exp(a - b) for a, b in zip(*row, strict=True)] for row in zip(new, old, strict=True)]
    advantages = advantages_by_loops(minibatch.values, minibatch.rewards, minibatch.dones, ratio, config)
    flat_advantages = flat(advantages)
    if config.ppo.norm_adv:
        flat_advantages = ppo.normalized(flat_advantages)
    weights = [weight for weight in minibatch.weights.flatten().tolist() for _ in range(HORIZON)]
    weighted = [weight * advantage for weight, advantage in zip(weights, flat_advantages, strict=True)]
    flat_new, flat_old, flat_seen = flat(new), flat(old), flat(seen)
    objective = ppo.policy_objective(flat_new, flat_old, weighted, config.ppo.clip_coef)
    value_error = ppo.value_loss(
        [values[state] for state in flat_seen],
        minibatch.values[:, :-1].flatten().tolist(),
        returns.flatten().tolist(),
        config.ppo.vf_clip_coef if config.ppo.clip_vloss else None,
    )
    entropies = [categorical.entropy(logits[state], [True] * ACTIONS) for state in flat_seen]
    return {
        "loss": ppo.loss(objective, value_error, entropies, config.ppo.vf_coef, config.ppo.ent_coef),
        "policy_loss": -objective,
        "value_loss": value_error,
        "entropy": ppo.mean(entropies),
        "approx_kl": ppo.approx_kl(flat_new, flat_old),
        "clipfrac": ppo.clip_fraction(flat_new, flat_old, config.ppo.clip_coef),
        "importance": ppo.mean(flat(ratio)),
        "current_logprobs": ppo.mean(flat_new),
    }


@pytest.mark.parametrize("changes", [{}, {"norm_adv": False}, {"clip_vloss": False}], ids=str)
def test_loss_of_a_minibatch_and_all_that_is_measured_are_those_of_the_references(changes):
    config, policy, experience = config_of(ppo=changes), Table(), filled_experience()
    index = torch.tensor([5, 0, 3])
    minibatch = experience.minibatch(index, torch.tensor([[0.2], [1.0], [0.6]]))
    loss, measured = loss_of(policy, experience, minibatch, some_advantages(), config)
    returns = some_advantages()[index] + experience.values[index, :-1]
    expected = expected_measures(policy, minibatch, returns, config)
    assert_close(loss.detach(), expected.pop("loss"))
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(measured[name], torch.tensor(value), rtol=1e-4, atol=1e-6, msg=name)
    assert not any(value.requires_grad for value in measured.values())


def test_gradient_of_the_loss_takes_advantages_and_targets_as_constants():
    config, policy, experience = config_of(), Table(), filled_experience()
    minibatch = experience.minibatch(torch.arange(4), torch.ones(4, 1))
    returns = some_advantages()[:4] + experience.values[:4, :-1]
    advantages = some_advantages().requires_grad_()
    loss_of(policy, experience, minibatch, advantages, config)[0].backward()

    # The same with double precision, plain torch and advantages from the reference.
    logits, values = (part.detach().double().requires_grad_() for part in (policy.logits, policy.value))
    seen = minibatch.observations[:, :, 0, 0].long()
    log_probs = logits[seen].log_softmax(-1)
    new = log_probs.gather(-1, minibatch.actions[..., None])[..., 0]
    ratio = (new - minibatch.behavior_log_probs).exp()
    advantages = advantages_by_loops(
        minibatch.values, minibatch.rewards, minibatch.dones, ratio.tolist(), config
    )
    advantages = torch.tensor(ppo.normalized(flat(advantages)), dtype=torch.float64).view(4, HORIZON)
    objective = torch.minimum(ratio * advantages, ratio.clamp(0.85, 1.15) * advantages).mean()
    old = minibatch.values[:, :-1]
    held = old + (values[seen] - old).clamp(-0.25, 0.25)
    errors = torch.maximum((values[seen] - returns) ** 2, (held - returns) ** 2)
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    (-objective + 0.6 * errors.mean() / 2 - 0.03 * entropy).backward()
    assert_close(policy.logits.grad, logits.grad.float())
    assert_close(policy.value.grad, values.grad.float())


class Teacher:
    """Adds a multiple of the mean value; keeps what it was shown."""

    def loss(self, experience, minibatch, outputs, agent_steps):
        self.shown = (experience, minibatch.index.tolist(), agent_steps)
        extra = 10.0 * outputs["value"].mean()
        return extra, {"ks_value_loss": extra.detach()}


def test_loss_to_a_teacher_is_added_and_logged():
    config, policy, experience, teacher = config_of(), Table(), filled_experience(), Teacher()
    minibatch = experience.minibatch(torch.tensor([5, 0, 3, 1]), torch.ones(4, 1))
    plain, _ = loss_of(policy, experience, minibatch, some_advantages(), config)
    taught, measured = loss_of(policy, experience, minibatch, some_advantages(), config, teacher, 77)
    assert_close((taught - plain).detach(), measured["ks_value_loss"])
    assert teacher.shown == (experience, [5, 0, 3, 1], 77)
    measured = updated(policy, sgd(policy, 0.0), experience, config, kickstarter=teacher, agent_step=9)
    assert "losses/ks_value_loss" in measured
    assert teacher.shown[2] == 9


@pytest.mark.parametrize("sampling", ["sequential", "prioritized"])
def test_minibatches_have_the_weights_of_their_sampling(sampling):
    config, experience = config_of(sampling=sampling), filled_experience()
    ones = [[1.0] * HORIZON] * SEGMENTS
    advantages = torch.tensor(
        advantages_by_loops(experience.values, experience.rewards, experience.dones, ones, config)
    )
    probabilities = replay.draw_probabilities(advantages.tolist(), 0.7)
    row_of = {tuple(row): index for index, row in enumerate(experience.values.tolist())}
    torch.manual_seed(0)
    minibatches = list(minibatches_of(config, experience, advantages, beta=0.4))
    assert len(minibatches) == 2
    drawn = [[row_of[tuple(row)] for row in minibatch.values.tolist()] for minibatch in minibatches]
    assert all(len(set(rows)) == 4 for rows in drawn)
    if sampling == "sequential":
        assert sorted(flat(drawn)) == list(range(SEGMENTS))
    for rows, minibatch in zip(drawn, minibatches, strict=True):
        assert minibatch.index.tolist() == rows
        weights = replay.importance_weights(probabilities, rows, 0.4)
        expected = [weight / max(weights) if sampling == "prioritized" else 1.0 for weight in weights]
        assert_close(minibatch.weights.flatten(), expected)


def test_gradient_step_is_as_long_as_the_norm_allows():
    policy, before = Table(), Table()
    optimizer = sgd(policy, lr=1.0)
    for gradient, length in ((3.0, 0.5), (0.2, 0.2)):
        policy.load_state_dict(before.state_dict())
        policy.value.grad = torch.full_like(policy.value, 99.0)  # left over from an earlier step
        norm = optimizer.step(gradient * policy.value[0])
        assert_close(norm, gradient)
        change = policy.value.detach() - before.value.detach()
        torch.testing.assert_close(change, -length * torch.eye(STATES)[0], rtol=1e-4, atol=1e-6)


def test_parts_of_equal_size_make_the_step_of_the_whole():
    policy = Table()
    before = policy.value.detach().clone()
    optimizer = sgd(policy, lr=1.0, max_grad_norm=100.0)
    assert optimizer.step(3.0 * policy.value[0], accumulate_steps=3) is None
    assert optimizer.step(6.0 * policy.value[1], epoch=5, accumulate_steps=3) is None
    assert torch.equal(policy.value, before)
    assert_close(optimizer.step(0.0 * policy.value[0], accumulate_steps=3), 5.0**0.5)
    assert_close(before - policy.value.detach(), torch.tensor([1.0, 2.0] + [0.0] * (STATES - 2)))


def test_weights_are_clipped_after_the_step():
    policy = Table()
    policy.clip_weights = lambda: policy.value.data.clamp_(-0.1, 0.1)
    sgd(policy, lr=100.0).step(policy.value.sum())
    assert policy.value.abs().max() <= 0.1


def test_gradient_that_is_not_finite_stops_the_run_and_changes_nothing():
    policy, before = Table(), Table()
    with pytest.raises(MettaError, match="diverged"):
        sgd(policy, lr=1.0).step(policy.value.sum() * float("nan"))
    assert torch.equal(policy.value, before.value)


def test_loss_that_is_not_finite_stops_the_run_also_with_a_finite_gradient():
    policy, before = Table(), Table()
    optimizer = sgd(policy, lr=1.0)
    assert optimizer.step(policy.value[0] + float("nan"), accumulate_steps=2) is None
    with pytest.raises(MettaError, match="diverged"):
        optimizer.step(policy.value[0], accumulate_steps=2)
    assert torch.equal(policy.value, before.value)
    optimizer.zero_grad()
    assert optimizer.step(policy.value[0]) is not None


def test_advantages_that_are_not_finite_stop_the_run_and_change_nothing():
    policy, before, experience = Table(), Table(), filled_experience()
    experience.rewards[0, 3] = float("inf")
    with pytest.raises(MettaError, match="advantages are not finite"):
        updated(policy, sgd(policy, 1.0), experience, config_of())
    assert torch.equal(policy.value, before.value)


@pytest.mark.parametrize(("target_kl", "num_minibatches"), [(None, 6), (1e9, 6), (1e-9, 1)])
def test_passes_end_at_the_target_kl_and_take_no_step_beyond_it(target_kl, num_minibatches):
    config = config_of(ppo={"target_kl": target_kl}, update_epochs=3)
    policy, experience = Table(), filled_experience()
    steps = []
    optimizer = sgd(policy, lr=0.1)
    optimizer.optimizers[0].register_step_post_hook(lambda *_: steps.append(1))
    measured = updated(policy, optimizer, experience, config)
    assert len(steps) == measured["losses/num_minibatches"] == num_minibatches


def test_update_reports_means_over_its_minibatches_and_the_variance_that_the_values_explained():
    # Without a learning rate both minibatches see the same policy.
    config, policy, experience = config_of(), Table(), filled_experience()
    measured = updated(policy, sgd(policy, lr=0.0), experience, config)
    everything = experience.minibatch(torch.arange(SEGMENTS), torch.ones(8, 1))
    expected = expected_measures(policy, everything, experience.values[:, :-1], config)
    for name in ("entropy", "approx_kl", "clipfrac", "importance", "current_logprobs"):
        assert measured[f"losses/{name}"] == pytest.approx(expected[name], rel=1e-4)
    ones = [[1.0] * HORIZON] * SEGMENTS
    advantages = advantages_by_loops(experience.values, experience.rewards, experience.dones, ones, config)
    values = experience.values[:, :-1].flatten().tolist()
    returns = [value + advantage for value, advantage in zip(values, flat(advantages), strict=True)]
    explained = ppo.explained_variance(values, returns)
    assert measured["losses/explained_variance"] == pytest.approx(explained, rel=1e-4)


def test_updates_learn_the_better_action_and_its_value():
    config = config_of(ppo={"gamma": 0.0, "gae_lambda": 0.0, "vf_clip_coef": 10.0}, update_epochs=2)
    policy, experience = Table(), filled_experience()
    optimizer = Optimizer("adam", policy, 0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        seen = torch.randint(0, STATES, (SEGMENTS, HORIZON), generator=generator)
        log_probs = policy.logits.detach().log_softmax(-1)[seen]
        actions = torch.multinomial(log_probs.exp().view(-1, ACTIONS), 1, generator=generator).view_as(seen)
        experience.observations[..., 0, 0] = seen.byte()
        experience.actions[:] = actions
        experience.behavior_log_probs[:] = log_probs.gather(-1, actions[..., None])[..., 0]
        experience.values[:, :-1] = policy.value.detach()[seen]
        experience.rewards[:, 1:] = (actions == seen % ACTIONS).float()
        updated(policy, optimizer, experience, config)
    right = policy.logits.detach().softmax(-1)[torch.arange(STATES), torch.arange(STATES) % ACTIONS]
    assert right.mean() > 0.9
    assert (policy.value.detach() - 1).abs().mean() < 0.3


class Network(Table):
    """The table again, with two layers whose weights are regularized and biases that are not."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 1)


def test_l2_adds_the_squares_of_weights_with_a_gradient():
    plain, config = config_of(), config_of(ppo={"l2_reg_loss_coef": 0.01})
    policy, experience = Network(), filled_experience()
    minibatch = experience.minibatch(torch.arange(4), torch.ones(4, 1))
    squares = policy.first.weight.square().sum() + policy.second.weight.square().sum()
    without, measured_without = loss_of(policy, experience, minibatch, some_advantages(), plain)
    loss, measured = loss_of(policy, experience, minibatch, some_advantages(), config)
    assert_close((loss - without).detach(), 0.01 * squares.detach())
    assert_close(measured["l2_reg_loss"], 0.01 * squares.detach())
    assert "l2_reg_loss" not in measured_without
    loss.backward()
    assert_close(policy.first.weight.grad, 0.02 * policy.first.weight.detach())
    assert policy.first.bias.grad is None


def test_l2_init_pulls_weights_to_where_they_were_with_a_gradient():
    config = config_of(ppo={"l2_init_loss_coef": 0.1})
    policy, experience = Network(), filled_experience()
    start = InitialWeights(policy)
    with torch.no_grad():
        policy.first.weight += 2.0
    minibatch = experience.minibatch(torch.arange(4), torch.ones(4, 1))
    loss, measured = loss_of(policy, experience, minibatch, some_advantages(), config, start=start)
    assert_close(measured["l2_init_loss"], 0.1 * 4.0 * 6)
    loss.backward()
    assert_close(policy.first.weight.grad, torch.full((2, 3), 0.1 * 2 * 2.0))
    start.update(policy)
    _, measured = loss_of(policy, experience, minibatch, some_advantages(), config, start=start)
    assert_close(measured["l2_init_loss"], 0.0)


def test_l2_init_without_initial_weights_is_refused():
    experience = filled_experience()
    minibatch = experience.minibatch(torch.arange(4), torch.ones(4, 1))
    with pytest.raises(ConfigError, match="initial_weights="):
        loss_of(Network(), experience, minibatch, some_advantages(), config_of(ppo={"l2_init_loss_coef": 1}))


@pytest.mark.parametrize("changes", [{}, {"norm_adv": False}, {"l2_reg_loss_coef": 0.01}], ids=str)
@pytest.mark.parametrize("sampling", ["sequential", "prioritized"])
def test_parts_of_a_minibatch_make_the_weights_of_the_whole(changes, sampling):
    results = []
    for size in (None, 2 * HORIZON, HORIZON):
        config = config_of(ppo=changes, sampling=sampling, max_minibatch_size=size, update_epochs=2)
        policy = Network()
        torch.manual_seed(3)
        measured = updated(policy, sgd(policy, 0.5), filled_experience(), config)
        results.append((policy.state_dict(), measured))
    (whole, measured), *others = results
    for weights, also_measured in others:
        assert also_measured == pytest.approx(measured, rel=1e-4, abs=1e-6)
        for name, part in weights.items():
            torch.testing.assert_close(part, whole[name], atol=1e-6, rtol=1e-6)


def test_parts_go_through_the_network_one_by_one():
    config = config_of(max_minibatch_size=HORIZON)
    policy, rows = Table(), []
    policy.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    updated(policy, sgd(policy, 0.5), filled_experience(), config)
    assert set(rows) == {1}


def test_early_stop_forgets_the_gradients_of_all_parts():
    config = config_of(ppo={"target_kl": 1e-9}, max_minibatch_size=HORIZON)
    policy, experience = Table(), filled_experience()
    optimizer = sgd(policy, 0.1)
    assert updated(policy, optimizer, experience, config)["losses/num_minibatches"] == 1
    assert policy.value.grad is None
    before = policy.value.detach().clone()
    assert optimizer.step(policy.value[0]) is not None  # and not one part of more
    assert_close(before - policy.value.detach(), 0.05 * torch.eye(STATES)[0])


def test_refreshed_values_are_those_of_the_policy_and_the_advantages_follow():
    config, policy, experience = config_of(), Table(), filled_experience()
    advantages = refresh_values(policy, experience, config, "cpu")
    seen = experience.observations[:, :, 0, 0].long()
    assert_close(experience.values[:, :-1], policy.value.detach()[seen])
    log_probs = policy.logits.detach().log_softmax(-1)[seen, experience.actions]
    ratio = (log_probs - experience.behavior_log_probs).exp().tolist()
    expected = advantages_by_loops(experience.values, experience.rewards, experience.dones, ratio, config)
    assert_close(advantages, expected)


def test_refreshed_values_after_a_segment_are_those_of_the_next_one():
    experience = Experience(
        total_agents=2,
        batch_size=SEGMENTS * HORIZON,
        bptt_horizon=HORIZON,
        minibatch_size=4 * HORIZON,
        obs_space=(1, 3),
        atn_space=ACTIONS,
        device="cpu",
    )
    experience.observations[..., 0, 0] = torch.arange(SEGMENTS)[:, None]
    experience.values[:, -1] = 99.0
    policy = Table()
    refresh_values(policy, experience, config_of(), "cpu")
    assert_close(experience.values[:-2, -1], policy.value.detach()[2:SEGMENTS])
    assert experience.values[-2:, -1].tolist() == [99.0, 99.0]  # what came then was not stored


@pytest.mark.parametrize(("recompute", "is_refreshed"), [(False, False), (True, True)])
def test_values_are_refreshed_between_passes_if_asked_for(recompute, is_refreshed):
    config = config_of(recompute_advantages=recompute, update_epochs=2)
    policy, experience = Table(), filled_experience()
    before = experience.values.clone()
    updated(policy, sgd(policy, 0.5), experience, config)
    assert torch.equal(experience.values, before) is not is_refreshed
