"""The glossary: every logged name, its unit, and how it is computed.

A name that is logged and not listed here is a defect; `check_names` finds it. Where a metric is a mean
over minibatches, it is the plain mean over the minibatches that gradients were taken on in that epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricDefinition:
    """What a number means.

    Attributes:
        unit: of the number; `1` where it has none.
        formula: how it is computed, in words or symbols.
    """

    unit: str
    formula: str


_MINIBATCH = "mean over minibatches of "

GLOSSARY: dict[str, MetricDefinition] = {
    "agent_steps": MetricDefinition(
        "agent steps", "environment steps summed over learner agents, since the start of the run"
    ),
    "epoch": MetricDefinition("epochs", "finished epochs (one collect and one update) since the start"),
    "timestamp": MetricDefinition("s", "seconds since 1970-01-01 UTC when the record was written"),
    "steps_per_second": MetricDefinition(
        "agent steps/s", "agent steps of the epoch / its wall time, collecting and updating"
    ),
    "learning_rate": MetricDefinition("1", "step size of the optimizer in the update of this epoch"),
    "losses/policy_loss": MetricDefinition(
        "1", _MINIBATCH + "mean(max(-A r, -A clip(r, 1 - clip_coef, 1 + clip_coef))), r the importance ratio"
    ),
    "losses/value_loss": MetricDefinition(
        "return^2", _MINIBATCH + "half the squared error of the critic, the worse of clipped and unclipped"
    ),
    "losses/entropy": MetricDefinition("nat", _MINIBATCH + "-sum_a p(a) log p(a) of the action distribution"),
    "losses/approx_kl": MetricDefinition(
        "nat", _MINIBATCH + "mean((r - 1) - log r), an estimate of KL(behavior || policy)"
    ),
    "losses/clipfrac": MetricDefinition("1", _MINIBATCH + "the share of steps with |r - 1| > clip_coef"),
    "losses/importance": MetricDefinition("1", _MINIBATCH + "mean(r), r = exp(log p - log p_behavior)"),
    "losses/current_logprobs": MetricDefinition(
        "nat", _MINIBATCH + "the log-probability of the actions that were taken, under the current policy"
    ),
    "losses/l2_reg_loss": MetricDefinition(
        "1", "l2_reg_loss_coef * the sum of the squares of the weights of linear and convolution layers"
    ),
    "losses/l2_init_loss": MetricDefinition(
        "1", "l2_init_loss_coef * the squared distance of these weights from where they were at the start"
    ),
    "losses/ks_action_loss": MetricDefinition(
        "nat", _MINIBATCH + "the cross entropy to the teachers' actions, weighted and annealed"
    ),
    "losses/ks_value_loss": MetricDefinition(
        "return^2", _MINIBATCH + "the squared distance to the teachers' values, weighted and annealed"
    ),
    "losses/ks_agreement": MetricDefinition(
        "1", _MINIBATCH + "the share of steps at which student and teacher find the same action likeliest"
    ),
    "losses/explained_variance": MetricDefinition(
        "1", "1 - Var(returns - values) / Var(returns) over the experience; 1 is a perfect critic"
    ),
    "losses/grad_norm": MetricDefinition(
        "1", _MINIBATCH + "the 2-norm of the gradient over all parameters, before it is clipped"
    ),
    "losses/num_minibatches": MetricDefinition(
        "minibatches", "minibatches that gradients were taken on; fewer than planned after a KL stop"
    ),
    "episode/return_mean": MetricDefinition(
        "reward/agent", "mean over agents and over the episodes that ended in this epoch of the summed reward"
    ),
    "episode/recent_return_mean": MetricDefinition(
        "reward/agent", "the same over the last 200 episodes, over epochs and resumes"
    ),
    "episode/length_mean": MetricDefinition(
        "environment steps", "mean length of the episodes that ended in this epoch"
    ),
    "episode/count": MetricDefinition("episodes", "episodes that ended since the start of the run"),
    "experience/reward_mean": MetricDefinition("reward/agent step", "mean reward over the experience"),
    "avg_simulation_score": MetricDefinition(
        "reward/agent", "plain mean of the simulation scores of an evaluation; see docs/evaluation.md"
    ),
    "avg_category_score": MetricDefinition(
        "reward/agent", "plain mean of the category scores of an evaluation; see docs/evaluation.md"
    ),
    "league/pool_size": MetricDefinition(
        "opponents", "opponents that the learner may meet, without the live copy of itself"
    ),
    "league/win_rate": MetricDefinition(
        "1", "plain mean over these of (wins + draws / 2) / matches, older matches decayed; 0.5 without any"
    ),
    "league/matches": MetricDefinition("matches", "whole episodes against these, since the start of the run"),
    "league/rating": MetricDefinition(
        "Elo points",
        "Bradley-Terry rating of the learner since its newest snapshot; the first opponent has 0",
    ),
    "league/rating_low": MetricDefinition("Elo points", "lower end of its 95 % posterior interval"),
    "league/rating_high": MetricDefinition("Elo points", "upper end of its 95 % posterior interval"),
    "league/curriculum_stage": MetricDefinition(
        "1", "position of the opponent at hand in the list, counted from 0"
    ),
    "league/newest_snapshot_epoch": MetricDefinition(
        "epochs", "epoch at which the newest snapshot was taken"
    ),
    "league/newest_snapshot_win_rate": MetricDefinition(
        "1", "win rate against the newest snapshot, older matches decayed; 0.5 without any"
    ),
    "cost/total": MetricDefinition(
        "currency", "METTA_HOURLY_COST * hours of wall time, evaluations included, over resumes"
    ),
    "cost/per_million_agent_steps": MetricDefinition("currency", "cost/total * 1e6 / agent_steps"),
    "dual_policy/policy_a_reward": MetricDefinition(
        "reward/agent", "mean return per learner agent over the whole episodes that ended in this epoch"
    ),
    "dual_policy/policy_a_reward_total": MetricDefinition(
        "reward", "summed rewards of all learner agents in the rollout"
    ),
    "dual_policy/npc_reward": MetricDefinition(
        "reward/agent", "mean return per opponent agent over the whole episodes that ended in this epoch"
    ),
    "dual_policy/npc_reward_total": MetricDefinition(
        "reward", "summed rewards of all opponent agents in the rollout"
    ),
    "dual_policy/combined_reward": MetricDefinition(
        "reward/agent",
        "mean return per agent, of all agents, over the whole episodes that ended in this epoch",
    ),
    "dual_policy/combined_reward_total": MetricDefinition(
        "reward", "policy_a_reward_total + npc_reward_total"
    ),
    "dual_policy/policy_a_agent_count": MetricDefinition("agents", "learner agents in all environments"),
    "dual_policy/npc_agent_count": MetricDefinition("agents", "opponent agents in all environments"),
    "curriculum/probability_min": MetricDefinition("1", "probability of the least likely task"),
    "curriculum/probability_max": MetricDefinition("1", "probability of the most likely task"),
    "curriculum/effective_tasks": MetricDefinition(
        "tasks",
        "exp(-sum_i p_i log p_i) over the probabilities of the tasks: as many equal ones spread alike",
    ),
    "curriculum/seen_tasks": MetricDefinition("tasks", "tasks that have finished an episode so far"),
    "curriculum/score_mean": MetricDefinition(
        "1",
        "mean over the seen tasks of the running mean (weight 0.1) of their scores, return / greatest return",
    ),
    "curriculum/score_min": MetricDefinition("1", "the least of these running means"),
    "curriculum/learning_progress_mean": MetricDefinition(
        "1", "mean over the tasks of |R(fast) - R(slow)|, the difference of two running means of success"
    ),
    "curriculum/learning_progress_max": MetricDefinition("1", "the greatest of these differences"),
    "curriculum/position": MetricDefinition("1", "how far a progressive curriculum is along its tasks"),
    "time/seconds": MetricDefinition("s", "time spent in epochs since the start of the run, over resumes"),
    "time/rollout_seconds": MetricDefinition("s", "wall time of collecting in this epoch"),
    "time/environment_seconds": MetricDefinition("s", "the part of it spent stepping environments"),
    "time/forward_seconds": MetricDefinition("s", "the part of it spent in the policy"),
    "time/update_seconds": MetricDefinition("s", "wall time of the update in this epoch"),
    "time/evaluation_seconds": MetricDefinition("s", "wall time of the evaluation after this epoch"),
    "time/checkpoint_seconds": MetricDefinition("s", "wall time of writing the checkpoint before this epoch"),
    "time/replay_seconds": MetricDefinition("s", "wall time of recording the replay before this epoch"),
}
"""Name -> definition."""

FAMILIES: dict[str, MetricDefinition] = {
    "hyperparameters/": MetricDefinition(
        "as named", "hyperparameters/SETTING: value of a setting of trainer.ppo that has a schedule"
    ),
    "gradients/": MetricDefinition(
        "1",
        "gradients/PARAMETER/mean, variance (of the elements) and norm: of the clipped gradient of the last "
        "minibatch of the epoch, every trainer.grad_mean_variance_interval epochs",
    ),
    "memory/": MetricDefinition(
        "2^20 bytes",
        "memory/NAME_mb: tensors and arrays of the policy, the optimizer and the experience, every "
        "trainer.system_monitor_interval epochs",
    ),
    "system/": MetricDefinition(
        "as named",
        "what the kernel says of this process and the machine, and torch of the GPU: cpu_percent (100 is one "
        "core) and cpu_seconds, memory_mb and memory_peak_mb of the process, memory_available_mb and "
        "load_1min of the machine, every trainer.system_monitor_interval epochs",
    ),
    "weights/": MetricDefinition(
        "1",
        "weights/METRIC/LAYER: what compute_weight_metrics of the policy finds, every "
        "analyze_weights_interval epochs",
    ),
    "env_agent/": MetricDefinition(
        "count/episode",
        "mean over agents and over the episodes that ended in this epoch of MettaGrid's counter",
    ),
    "dual_policy/npc/": MetricDefinition(
        "as named",
        "dual_policy/npc/OPPONENT/NAME: the metric dual_policy/NAME over the environments of one opponent; "
        "win_rate: (wins + draws / 2) / matches over the last 200 matches against it, where a match is a "
        "whole episode and the higher mean return per agent wins; episodes: such matches since the start",
    ),
    "curriculum/completed/": MetricDefinition(
        "episodes", "finished episodes of the tasks that differ in the last bucket only, since the start"
    ),
    "eval_": MetricDefinition(
        "reward/agent",
        "eval_CATEGORY/SIMULATION: mean over episodes of the mean over agents of the summed reward; "
        "eval_CATEGORY/score: plain mean over the simulations of the category",
    ),
}
"""Prefix -> definition, where the simulator or the evaluated suite decides which names there are."""


def check_names(names: Iterable[str]) -> None:
    """Refuse metrics that nobody has defined.

    Raises:
        ValueError: some names are neither in `GLOSSARY` nor of a family.
    """
    families = tuple(FAMILIES)
    undefined = sorted(name for name in names if name not in GLOSSARY and not name.startswith(families))
    if undefined:
        raise ValueError(f"not in the glossary of metta_cli.tracking.metrics: {', '.join(undefined)}")
