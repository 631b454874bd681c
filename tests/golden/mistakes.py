"""Deliberate mistakes that the tests must notice; `mutations.py` makes them.

Whoever changes a line that is listed here changes the list, and whoever adds a formula adds its mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ADVANTAGES, LOSSES = "algorithms/advantages.py", "algorithms/losses.py"
DISTRIBUTIONS, DIAGNOSTICS = "algorithms/distributions.py", "algorithms/diagnostics.py"
PRIORITIES, SHAPES = "algorithms/priorities.py", "algorithms/shapes.py"
UPDATE, ROLLOUT = "training/update.py", "training/rollout.py"
DISTILLATION, KICKSTARTER = "algorithms/distillation.py", "training/kickstarter.py"
EXPERIENCE, LSTM = "training/experience.py", "policies/lstm.py"
OPTIMIZERS, MUON = "training/optimizers.py", "training/muon.py"
SCHEDULES, REWARDS = "algorithms/schedules.py", "algorithms/rewards.py"
REGULARIZATION = "algorithms/regularization.py"
MATCHMAKING, RATINGS = "algorithms/matchmaking.py", "algorithms/ratings.py"
WEIGHTS, RENAMING = "algorithms/weights.py", "policies/renaming.py"
CURRICULA, ADAPTIVE = "algorithms/curricula.py", "training/curricula_adaptive.py"

# File with mistakes -> the tests that have to notice them, separated by blanks. (Not the recorded numbers:
# they know how the code was, and not what is right.)
WITNESSES = {
    ADVANTAGES: "tests/golden/test_advantages.py",
    LOSSES: "tests/golden/test_losses.py",
    DISTRIBUTIONS: "tests/golden/test_distributions.py",
    DIAGNOSTICS: "tests/golden/test_losses.py",
    PRIORITIES: "tests/golden/test_priorities.py",
    SHAPES: "tests/golden/test_shapes.py",
    DISTILLATION: "tests/golden/test_distillation.py",
    KICKSTARTER: "tests/integration/test_kickstart.py",
    UPDATE: "tests/golden/test_update.py",
    OPTIMIZERS: "tests/golden/test_update.py tests/unit/training/test_optimizers.py",
    MUON: "tests/unit/training/test_optimizers.py",
    SCHEDULES: "tests/golden/test_schedules.py",
    REWARDS: "tests/golden/test_regularization.py",
    REGULARIZATION: "tests/golden/test_regularization.py",
    EXPERIENCE: "tests/unit/training/test_experience.py tests/golden/test_update.py",
    ROLLOUT: "tests/unit/training/test_rollout.py tests/integration/test_training.py "
    "tests/integration/test_recurrent_state.py",
    LSTM: "tests/contract/test_policies.py",
    WEIGHTS: "tests/golden/test_weights.py",
    RENAMING: "tests/unit/policies/test_mixin.py tests/unit/policies/test_fitting.py",
    MATCHMAKING: "tests/golden/test_matchmaking.py",
    RATINGS: "tests/golden/test_ratings.py",
    CURRICULA: "tests/golden/test_curricula.py",
    ADAPTIVE: "tests/golden/test_curricula.py tests/unit/training/test_curricula.py",
}

# File -> (what is wrong, text that occurs exactly once, what the mistake puts in its place).
MISTAKES = {
    DISTILLATION: [
        ("entropy of the student", "probabilities * student_log_probs", "probabilities * teacher_log_probs"),
        ("sum over steps", "-products.sum(dim=-1).mean()", "-products.sum()"),
        ("gradient reaches the teacher", "teacher_log_probs.detach().exp()", "teacher_log_probs.exp()"),
        ("absolute value error", ".square().mean()", ".abs().mean()"),
        ("values broadcast", "    expect_shape(student_values.shape, teacher_values=teacher_values)\n", ""),
        ("factor beyond 1", "min(1.0, remaining / duration)", "remaining / duration"),
        ("teachers never end", "    if agent_steps >= kickstart_steps:\n        return 0.0\n", ""),
    ],
    KICKSTARTER: [
        ("teachers forget at every segment", "if teacher.name not in self._states:", "if True:"),
        (
            "coefficients compound",
            "action_loss + teacher.action_loss_coef * teacher_cross_entropy(taught, log_probs)",
            "teacher.action_loss_coef * (action_loss + teacher_cross_entropy(taught, log_probs))",
        ),
        ("losses do not fade", "factor * action_loss, factor * value_loss", "action_loss, value_loss"),
        ("other segments' lessons", "index = minibatch.index.to(", "index = minibatch.index.flip(0).to("),
        (
            "the student's random numbers are used up",
            ", torch.random.fork_rng(devices=devices):",
            ":",
        ),
    ],
    WEIGHTS: [
        ("rank counts one less", "float(is_short.sum() + 1)", "float(is_short.sum())"),
        ("rank of nothing is 1", " if bool(total > 0) else 0.0", ""),
        ("collapsed is small beside the mean", "delta * values.max()", "delta * values.mean()"),
        ("delta is the share that counts", "(1 - delta) * total", "delta * total"),
        ("nuclear norm", "float(matrix.norm())", "float(values.sum())"),
    ],
    RENAMING: [
        ("index without the type", "return kind + self.cum", "return self.cum"),
        (
            "sum counts the type itself",
            "torch.tensor([0, *accumulate(largest)])",
            "torch.tensor([*accumulate(largest)])",
        ),
        ("last argument missing", "for argument in range(last + 1)]", "for argument in range(last)]"),
        (
            "new feature takes a number that is taken",
            "shown[name] if shown[name] in free else min(free)",
            "shown[name]",
        ),
        ("known names are renamed", "if name not in learned:", "if True:"),
    ],
    CURRICULA: [
        ("smoothing on the wrong side", "rates * (1 - smoothing)", "rates * smoothing"),
        ("reweighting keeps no 1", "(1 - 2 * rates)", "(1 - rates)"),
        ("baseline not taken off", "rates - baselines, 0.0", "rates, 0.0"),
        ("rest not scaled", " / (1.0 - baselines)", ""),
        ("progress downwards is none", "np.abs(reweight", "np.maximum(0, reweight"),
        ("z-score not scaled", "(deviation if deviation > 0 else 1.0)", "1.0"),
        ("tasks with success do not count", "(progress > 0) | (success > 0)", "progress > 0"),
        ("regression upside down", "np.asarray(best, float) / (", "1 / np.asarray(best, float) * ("),
        ("gate opens at the next task", "(offsets + 0.5)", "(offsets - 0.5)"),
        ("gate twice as wide", "(0.5 + blending)", "(1 + blending)"),
        ("even share twice", "(1 - share) * weights", "weights"),
    ],
    ADAPTIVE: [
        ("slow mean follows the rates", "self._fast[fresh] - self._slow", "rates - self._slow"),
        (
            "baseline moves on",
            "np.where(is_first, np.minimum(rates, BASELINE_MAX), self._baselines[fresh])",
            "np.minimum(rates, BASELINE_MAX)",
        ),
        (
            "scores not clipped",
            "self.config.memory] = min(max(score, 0.0), 1.0)",
            "self.config.memory] = score",
        ),
        ("one score moves on", "        score = min(max(score, 0.0), 1.0)\n", ""),
        ("unseen tasks get nothing", "weights[self._num_outcomes == 0] = weights.max()", "pass"),
        ("unseen tasks weigh nothing", "max(1.0, weights.max())", "0.0"),
        ("mean starts at 0", "if self.completed[task] > 1 else 1.0", "if True else 1.0"),
        ("best score forgotten", "max(self._best[task], score)", "score"),
        ("moves on at any score", "self.smoothed_score >= self.config.threshold", "True"),
        ("processes drift apart", "(self.is_shared or task in self._active)", "(task in self._active)"),
    ],
    ADVANTAGES: [
        ("reward of the step before", "errors = rewards[:, 1:]", "errors = rewards[:, :-1]"),
        ("done of the step before", "1.0 - dones[:, 1:]", "1.0 - dones[:, :-1]"),
        ("done ignored", "1.0 - dones[:, 1:]", "1.0 - 0.0 * dones[:, 1:]"),
        ("done inverted", "1.0 - dones[:, 1:]", "dones[:, 1:]"),
        ("bootstrap across a done", "gamma * alive * values[:, 1:]", "gamma * values[:, 1:]"),
        ("trace across a done", "(max=vtrace_c_clip) * alive", "(max=vtrace_c_clip)"),
        ("value not subtracted", " - values[:, :-1]", ""),
        ("value error of the wrong sign", " - values[:, :-1]", " + values[:, :-1]"),
        ("discount missing in the error", "[:, 1:] + gamma * alive", "[:, 1:] + alive"),
        ("discount missing in the trace", "gamma * gae_lambda * ratio", "gae_lambda * ratio"),
        ("lambda dropped", "gamma * gae_lambda * ratio", "gamma * ratio"),
        ("rho clip missing", ".clamp(max=vtrace_rho_clip)", ""),
        ("c clip missing", ".clamp(max=vtrace_c_clip)", ""),
        ("c clip in place of rho clip", "(max=vtrace_rho_clip)", "(max=vtrace_c_clip)"),
        ("rho clip in place of c clip", "(max=vtrace_c_clip)", "(max=vtrace_rho_clip)"),
        ("rho is a lower bound", "(max=vtrace_rho_clip)", "(min=vtrace_rho_clip)"),
        ("error not weighted", "ratio[:, :-1].clamp(max=vtrace_rho_clip) * errors", "errors"),
        (
            "ratio of the next step",
            "ratio[:, :-1].clamp(max=vtrace_rho_clip)",
            "ratio[:, 1:].clamp(max=vtrace_rho_clip)",
        ),
        (
            "last column written",
            "    return advantages.to(device)",
            "    advantages[:, -1] = 0\n    return advantages.to(device)",
        ),
        ("shifted by a column", "advantages[:, :-1] =", "advantages[:, 1:] ="),
        ("buffer not filled", "advantages[:, :-1] =", "advantages.clone()[:, :-1] ="),
        ("a copy is returned", "return advantages.to(device)", "return advantages.clone()"),
        ("gradient leaks through the ratio", "@torch.no_grad()\n", ""),
        ("trace not accumulated", "step_sum.addcmul_(decay, next_sum)", "pass"),
        ("trace subtracted", "addcmul_(decay, next_sum)", "addcmul_(decay, next_sum, value=-1)"),
        (
            "trace runs forward in time",
            "zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True)",
            "zip(steps[:-1], steps[1:], strict=True)",
        ),
        ("rewards not checked", "values.shape, rewards=rewards, dones", "values.shape, dones"),
    ],
    LOSSES: [
        (
            "sign of the policy loss",
            "torch.maximum(-advantages * ratio, -",
            "torch.minimum(advantages * ratio, ",
        ),
        ("optimistic surrogate", "torch.maximum(-advantages", "torch.minimum(-advantages"),
        ("surrogate clip missing", "ratio.clamp(1 - clip_coef, 1 + clip_coef)", "ratio"),
        ("surrogate clipped above only", "ratio.clamp(1 - clip_coef, 1", "ratio.clamp(0, 1"),
        ("surrogate clipped below only", "(1 - clip_coef, 1 + clip_coef)", "(1 - clip_coef, 99)"),
        ("surrogate always clipped", "-advantages * ratio, -adv", "-advantages * clipped_ratio, -adv"),
        ("ratio upside down", "(log_probs - behavior_log_probs)", "(behavior_log_probs - log_probs)"),
        ("ratio unbounded", ".clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)", ""),
        ("weights not applied", "advantages * weights.detach()", "advantages"),
        (
            "gradient leaks into the advantages",
            "    advantages = advantages.detach()\n    if weights",
            "    if weights",
        ),
        ("gradient leaks into the weights", "weights.detach()", "weights"),
        (
            "gradient leaks into the behavior",
            "(log_probs, behavior_log_probs.detach())",
            "(log_probs, behavior_log_probs)",
        ),
        ("weights of any shape", "expect_shape((log_probs.shape[0], 1), weights=weights)", "pass"),
        ("value clip missing", "if clip_coef is not None:", "if False:"),
        ("optimistic value loss", "torch.maximum(squared_error", "torch.minimum(squared_error"),
        (
            "value clipped around the new value",
            "(behavior_values + change - returns)",
            "(values + change - returns)",
        ),
        ("value clipped on one side", "clamp(-clip_coef, clip_coef)", "clamp(max=clip_coef)"),
        ("value loss not halved", "return 0.5 * squared_error.mean()", "return squared_error.mean()"),
        (
            "gradient leaks into the targets",
            "behavior_values, returns = behavior_values.detach(), returns.detach()",
            "pass",
        ),
        ("sign of the entropy bonus", "- ent_coef * entropy.mean()", "+ ent_coef * entropy.mean()"),
        ("entropy summed", "ent_coef * entropy.mean()", "ent_coef * entropy.sum()"),
        ("sign of the value loss", "return policy_loss + vf_coef", "return policy_loss - vf_coef"),
        (
            "coefficients exchanged",
            "vf_coef * value_loss - ent_coef * entropy.mean",
            "ent_coef * value_loss - vf_coef * entropy.mean",
        ),
        ("biased deviation", "std(correction=1)", "std(correction=0)"),
        ("mean not subtracted", "return (advantages - mean) / (d", "return advantages / (d"),
        ("epsilon missing", " + _NORMALIZATION_EPS)", ")"),
        ("statistics of the part", "if statistics is None else statistics", ""),
        (
            "rounding errors blown up",
            "torch.where(is_constant, torch.full_like(deviation, torch.inf), deviation)",
            "deviation",
        ),
    ],
    DISTRIBUTIONS: [
        ("mask in the opposite sense", "masked_fill(~action_mask", "masked_fill(action_mask"),
        ("mask ignored when sampling", "gumbel).argmax(-1)", "gumbel).nan_to_num(neginf=0.0).argmax(-1)"),
        ("empty rows accepted", "if not bool(action_mask.any(-1).all()):", "if False:"),
        ("numbers accepted as mask", "if action_mask.dtype != torch.bool:", "if False:"),
        ("sign of the entropy", "surprise = -log_probs", "surprise = log_probs"),
        ("entropy NaN at probability 0", ".masked_fill(log_probs.isneginf(), 0.0)", ""),
        ("sign of the noise", "gumbel = -torch.log(", "gumbel = torch.log("),
        ("greedy instead of random", "(logits + gumbel)", "logits"),
        ("uniform noise instead of Gumbel", "(logits + gumbel)", "(logits + uniform)"),
        ("noise unbounded", "uniform.clamp(limits.tiny, 1.0 - limits.eps / 2)", "uniform"),
        ("generator not used", "generator=generator, device", "device"),
        ("log_prob of the first action", "actions.long().unsqueeze(-1)", "0 * actions.long().unsqueeze(-1)"),
    ],
    DIAGNOSTICS: [
        ("plain estimator of KL", "(log_ratio.expm1() - log_ratio)", "(-log_ratio)"),
        ("sign of the KL", "(log_ratio.expm1() - log_ratio)", "(log_ratio - log_ratio.expm1())"),
        ("digits of the KL lost", "log_ratio.expm1() - log_ratio", "(log_ratio.exp() - 1) - log_ratio"),
        ("clip fraction of one side", "change.abs() > clip_coef", "change > clip_coef"),
        ("clip fraction inverted", "change.abs() > clip_coef", "change.abs() < clip_coef"),
        ("unexplained variance", "explained = 1.0 - (returns", "explained = (returns"),
        ("variance of the values", "/ returns.var(correction=0)", "/ values.var(correction=0)"),
        (
            "equal targets explained",
            "torch.where(is_constant, torch.zeros_like(explained), explained)",
            "explained",
        ),
    ],
    PRIORITIES: [
        ("signed advantages", "advantages.detach().abs()", "advantages.detach()"),
        ("alpha not applied", ".sum(dim=1) ** prio_alpha", ".sum(dim=1)"),
        ("unreachable segments", " + _PRIORITY_FLOOR", ""),
        ("priorities not normalized", "return weights / weights.sum()", "return weights"),
        ("gradient through priorities", "advantages.detach().abs()", "advantages.abs()"),
        ("drawn twice", "replacement=False", "replacement=True"),
        ("draws ignore the generator", "replacement=False, generator=generator", "replacement=False"),
        ("beta reversed", "priorities[indices]) ** -beta", "priorities[indices]) ** beta"),
        ("weights of the first segments", "priorities[indices]", "priorities[: len(indices)]"),
        ("weights unbounded", "(weights / weights.max())", "weights"),
        ("weights relative to the smallest", "weights.max()", "weights.min()"),
        ("segments left out", "num_segments % minibatch_segments != 0", "False"),
        (
            "segments in order",
            "torch.randperm(num_segments, generator=generator)",
            "torch.arange(num_segments)",
        ),
        ("permutation ignores the generator", "(num_segments, generator=generator)", "(num_segments)"),
        ("annealing reversed", "+ (1.0 - prio_beta0)", "- (1.0 - prio_beta0)"),
        ("annealing without alpha", " * prio_alpha * progress", " * progress"),
        ("annealing beyond the end", "min(epoch / total_epochs, 1.0)", "epoch / total_epochs"),
    ],
    SCHEDULES: [
        (
            "linear upwards",
            "initial + (minimum - initial) * _share",
            "initial - (minimum - initial) * _share",
        ),
        ("cosine of half the way", "math.cos(math.pi * _share", "math.cos(math.pi / 2 * _share"),
        ("cosine upside down", "(1 + math.cos", "(1 - math.cos"),
        ("exponential below the minimum", "return max(initial * math.pow", "return min(initial * math.pow"),
        ("logarithmic is linear", "math.log1p(decay_rate * _share(progress))", "_share(progress)"),
        ("beyond the end", "min(max(progress, 0.0), 1.0)", "progress"),
        ("warm-up beyond the value", "min(1.0, agent_steps / warmup_steps)", "agent_steps / warmup_steps"),
    ],
    REGULARIZATION: [
        ("L2 without gradient", "weight.square().sum()", "weight.detach().square().sum()"),
        ("L2-init without gradient", "(weight - reference", "(weight.detach() - reference"),
        ("L2-init moves the reference", "reference[name].detach()", "reference[name]"),
        ("norm in place of its square", "torch.stack(terms).sum()", "torch.stack(terms).sum().sqrt()"),
        ("embeddings too", "(nn.Embedding, nn.EmbeddingBag, ", "("),
        ("norms too", ", nn.LayerNorm)", ")"),
        ("biases and norms of one dimension too", "weight.dim() >= 2", "weight.dim() >= 1"),
    ],
    REWARDS: [
        (
            "mean with the reward in it",
            "centered = rewards - means",
            "centered = (1 - beta) * (rewards - means)",
        ),
        ("sum of the rewards", "means + beta * centered", "means + beta * rewards"),
        ("mean added", "centered = rewards - means", "centered = rewards + means"),
    ],
    MUON: [
        ("outputs are hidden", "words[-1] in OUTPUT_NAMES", "False"),
        ("single rows are hidden", "and len(parameter) > 1", ""),
        ("convolutions are left out", "    nn.Conv2d,\n", ""),
        ("steps of another length", 'adjust_lr_fn="match_rms_adamw"', "adjust_lr_fn=None"),
        ("whole decay only", "weight_decay=weight_decay", "weight_decay=int(weight_decay)"),
    ],
    SHAPES: [
        ("another number of dimensions accepted", "tensor.dim() == len(shape) and ", ""),
        ("every shape accepted", "if not fits:", "if False:"),
    ],
    UPDATE: [
        (
            "last column not credited",
            "padded = torch.cat([ratio, ratio.new_ones(len(ratio), 1)], dim=1)",
            "padded, values, rewards, dones = ratio, values[:, :-1], rewards[:, :-1], dones[:, :-1]",
        ),
        (
            "ratio ignored in the advantages",
            "minibatch.dones, ratio)",
            "minibatch.dones, torch.ones_like(ratio))",
        ),
        (
            "ratio upside down",
            "(log_probs.detach(), minibatch.behavior_log_probs).exp()",
            "(minibatch.behavior_log_probs, log_probs.detach()).exp()",
        ),
        (
            "gamma and lambda exchanged",
            "        ppo.gamma,\n        ppo.gae_lambda,\n",
            "        ppo.gae_lambda,\n        ppo.gamma,\n",
        ),
        (
            "clips exchanged",
            "        vtrace.vtrace_rho_clip,\n        vtrace.vtrace_c_clip,\n",
            "        vtrace.vtrace_c_clip,\n        vtrace.vtrace_rho_clip,\n",
        ),
        ("advantages always normalized", "if ppo.norm_adv:", "if True:"),
        ("weights not passed on", "ppo.clip_coef, minibatch.weights", "ppo.clip_coef, None"),
        ("value clip of the policy clip", "value_clip = ppo.vf_clip_coef", "value_clip = ppo.clip_coef"),
        ("values always clipped", "ppo.vf_clip_coef if ppo.clip_vloss else None", "ppo.vf_clip_coef"),
        (
            "values of the next step",
            "old_values = minibatch.values[:, :-1]",
            "old_values = minibatch.values[:, 1:]",
        ),
        (
            "coefficients exchanged",
            "vf_coef=ppo.vf_coef, ent_coef=ppo.ent_coef",
            "vf_coef=ppo.ent_coef, ent_coef=ppo.vf_coef",
        ),
        (
            "targets without values",
            "returns = targets + old_values",
            "returns = targets",
        ),
        (
            "targets of other segments",
            "advantages[minibatch.index, :",
            "advantages[: len(minibatch.index), :",
        ),
        ("target_kl ignored", "if number == len(parts) and self._is_too_far(seen):", "if False:"),
        (
            "step beyond target_kl",
            "                self.optimizer.zero_grad()\n                return False",
            "                self.optimizer.step(loss, 0, len(parts))\n                return False",
        ),
        (
            "gradients of parts left over",
            "                self.optimizer.zero_grad()\n                return False",
            "                return False",
        ),
        ("one pass instead of all", "range(self.config.update_epochs)", "range(1)"),
        ("advantages that are not finite", "if not bool(torch.isfinite(advantages).all()):", "if False:"),
        ("sums instead of means", "name: value / len(self.steps)", "name: value"),
        (
            "variance explained by the targets",
            "self.world.concatenate(advantages) + old_values)",
            "self.world.concatenate(advantages))",
        ),
        ("parts normalized by themselves", "replace(part, normalization=statistics)", "part"),
        ("statistics of the first part", "torch.cat(advantages)", "advantages[0]"),
        ("L2 term without its coefficient", "ppo.l2_reg_loss_coef * squared_norm", "squared_norm"),
        ("L2-init term without its coefficient", "ppo.l2_init_loss_coef * init", "init"),
        ("L2 terms only logged", "return sum(terms.values(), 0.0), {", "return 0.0, {"),
        ("teacher only logged", "loss + extra, measured | scalars", "loss, measured | scalars"),
        ("values never refreshed", "if number > 0 and self.config.recompute_advantages:", "if False:"),
        ("stale ratio", "        ratio[index] = log", "        _ = log"),
        (
            "stale value after a segment",
            "experience.values[rows, -1] = experience.values[following, 0]",
            "pass",
        ),
    ],
    OPTIMIZERS: [
        (
            "gradients pile up",
            "        if self._num_accumulated == 0:\n            self.zero_grad()\n",
            "",
        ),
        (
            "gradient not clipped",
            "clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)",
            "clip_grad_norm_(self.policy.parameters(), 1e9)",
        ),
        ("gradient that is not finite", "if not bool(torch.isfinite(norm + self._loss)):", "if False:"),
        ("loss that is not finite", "isfinite(norm + self._loss)", "isfinite(norm)"),
        ("step not taken", "            optimizer.step()\n", "            pass\n"),
        ("weights not clipped", "            clip_weights()\n", "            pass\n"),
        (
            "learning rates of Muon and Adam alike",
            'group["lr"] = scale * learning_rate',
            'group["lr"] = learning_rate',
        ),
        ("no weights for evaluation", "                switch()\n", "                pass\n"),
        ("state of any type accepted", 'if data["type"] != self.optimizer_type:', "if False:"),
        ("parts summed instead of averaged", "loss / accumulate_steps if", "loss if"),
        ("a step with every part", "if self._num_accumulated < accumulate_steps:", "if False:"),
    ],
    EXPERIENCE: [
        (
            "weights of other segments",
            "importance_weights(priorities, index, beta)",
            "importance_weights(priorities, index.flip(0), beta)",
        ),
        ("sampling ignored", 'if sampling == "sequential":', "if False:"),
        ("truncation is no done", "return self.terminals | self.truncations", "return self.terminals"),
        (
            "truncation lost in minibatches",
            "self.terminals[index] | self.truncations[index]",
            "self.terminals[index]",
        ),
        ("state of other segments", "part[:, index] for", "part[:, : len(index)] for"),
        ("tokens in use cut off", "-(-self.used_tokens // 8) * 8", "self.used_tokens // 8 * 8"),
    ],
    ROLLOUT: [
        (
            "reward of the last action lost",
            "experience.write_arrivals(rows, -1, _values_now",
            "(rows, _values_now",
        ),
        (
            "what came with the next segment lost",
            "experience.write_arrivals(experience.rows(chunk - 1), -1",
            "(experience.rows(chunk - 1), -1",
        ),
        (
            "reward one step early",
            "experience.write_arrivals(rows, step, outputs",
            "experience.write_arrivals(rows, step - 1, outputs",
        ),
        ("state at segment start lost", "experience.state[name][:, rows] = part", "pass"),
        (
            "state kept over a truncation",
            "observations[:, :used], experience.current_dones, experience",
            "observations[:, :used], experience.current_terminals, experience",
        ),
        ("looking ahead moves the state", "part.clone() for name", "part for name"),
        ("truncation not bootstrapped", "+= discount * values", "+= 0.0 * values"),
        ("bootstrap not discounted", "+= discount * values", "+= values"),
        ("bootstrap from the next episode", "env.final_observations", "env.observations"),
        ("bootstrap without memory", "part[:, cut] for name", "0 * part[:, cut] for name"),
        ("cut episodes counted", "        if episode.is_cut:\n", "        if False:\n"),
        ("agents without a statistic ignored", "value / len(episode.agent_stats)", "value"),
    ],
    LSTM: [
        ("no reset in training", "(hidden * mask, cell * mask)", "(hidden, cell)"),
        ("cell not reset in training", "(hidden * mask, cell * mask)", "(hidden * mask, cell)"),
        ("no reset while acting", "keep = (~dones).to(features.dtype)[None, :, None]", "keep = 1.0"),
        (
            "reset of everybody",
            "mask = keep[None, :, start, None]",
            "mask = keep[None, :, start, None].amin()",
        ),
        ("reset a step early", "dones[:, 1:].any(dim=0)", "dones[:, :-1].any(dim=0)"),
        (
            "state not updated",
            'hidden, (state["lstm_h"], state["lstm_c"]) = self.lstm',
            "hidden, _ = self.lstm",
        ),
        ("cell lost between pieces", "piece, (hidden, cell) = lstm", "piece, (hidden, _) = lstm"),
        (
            "training starts afresh",
            "    if state is None:\n            state = self.initial_state(segments",
            "    if True:\n            state = self.initial_state(segments",
        ),
    ],
    MATCHMAKING: [
        ("power ignored", "losses**power", "losses**2"),
        ("squared is linear", '"squared": losses**2', '"squared": losses'),
        ("easy opponents first", "losses = 1.0 - rates", "losses = rates"),
        ("cap missing", "np.minimum(0.5, losses)", "losses"),
        ("wins alone make the variance", "rates * losses", "rates"),
        ("nothing left to divide", "if total < VANISHED:", "if False:"),
        ("quality not divided by the probability", "(len(qualities) * probability)", "len(qualities)"),
        ("quality not divided by the number", "(len(qualities) * probability)", "probability"),
        ("winner's quality rises", "qualities[beaten] - learning_rate", "qualities[beaten] + learning_rate"),
        ("large qualities overflow", "scores - scores.max()", "scores"),
        ("the oldest in place of the latest", "weights[-latest:]", "weights[:latest]"),
        ("target ignored", "dtype=np.float64) - target", "dtype=np.float64) - 0.5"),
        ("far opponents underflow", "exponents - exponents.max()", "exponents"),
    ],
    RATINGS: [
        ("draws count nothing", "wins + 0.5 * draws) / games", "wins) / games"),
        ("no games are a loss", "games if games > 0 else 0.5", "games if games > 0 else 0.0"),
        ("normal interval", "+ square / (2 * games)) /", ") /"),
        ("interval of 68 %", "QUANTILE_95 * math.sqrt", "math.sqrt"),
        ("anchor moves", "np.arange(len(points)) != anchor", "np.arange(len(points)) != 0"),
        ("prior missing in the gradient", " - precision * strengths", ""),
        ("prior missing in the curvature", "axis=1) + precision)", "axis=1))"),
        ("winners sink", "points - games * expected", "games * expected - points"),
        ("one step only", "_MAX_NEWTON_STEPS = 100", "_MAX_NEWTON_STEPS = 1"),
        ("covariance in nats", "covariance * POINTS_PER_NAT**2", "covariance"),
    ],
}


@dataclass(frozen=True)
class Mutation:
    """One mistake in one file.

    Attributes:
        file: path below `metta_cli/`, one of `WITNESSES`.
        mistake: what is wrong, in words.
        old: text that occurs exactly once in the file.
        new: what the mistake puts in its place.
    """

    file: str
    mistake: str
    old: str
    new: str

    def mutated(self, root: Path) -> str:
        """Return the text of the file with the mistake in it."""
        text = (root / "metta_cli" / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {text.count(self.old)} times, and not once: {self.old}")
        return text.replace(self.old, self.new)


MUTATIONS = [Mutation(file, *mistake) for file, mistakes in MISTAKES.items() for mistake in mistakes]
