"""V-trace and GAE as the papers write them: explicit sums of products, no recurrence.

Both papers number rewards by the action that earned them. The stored alignment, where `rewards[t + 1]` pays
for the action at `t`, is undone once, in `transition`.
"""


def transition(rewards, dones, t):
    """Return the reward of the action at `t`, and whether that action ended the episode."""
    return rewards[t + 1], bool(dones[t + 1])


def vtrace_error(values, rewards, dones, ratio, *, gamma, gae_lambda, rho_clip, c_clip):
    """Return `v_s - V(x_s)` for every `s` but the last of one segment.

    Espeholt et al. 2018, equation 1:
    `v_s = V(x_s) + sum_{t=s}^{s+n-1} gamma^{t-s} (prod_{i=s}^{t-1} c_i) delta_t V`,
    with lambda in `c_i` (remark 2).
    """
    n = len(values) - 1
    errors = []
    for s in range(n):
        total = 0.0
        for t in range(s, n):
            # Every action before t must have kept the episode going for the error at t to count.
            if any(transition(rewards, dones, i)[1] for i in range(s, t)):
                break
            trace = 1.0
            for i in range(s, t):
                trace *= gae_lambda * min(c_clip, ratio[i])
            reward, ended = transition(rewards, dones, t)
            next_value = 0.0 if ended else values[t + 1]
            delta = min(rho_clip, ratio[t]) * (reward + gamma * next_value - values[t])
            total += gamma ** (t - s) * trace * delta
        errors.append(total)
    return errors


def gae(values, rewards, dones, *, gamma, gae_lambda):
    """Return the advantage of every step but the last as the mixture of n-step advantages.

    Schulman et al. 2016, equation 16: `(1 - lambda) * (A^(1) + lambda A^(2) + lambda^2 A^(3) + ...)`. The
    longest one that the episode or the segment allows stands for all longer ones and gets their weight.
    """
    n = len(values) - 1
    advantages = []
    for s in range(n):
        n_step = []
        discounted_rewards = 0.0
        for t in range(s, n):
            reward, ended = transition(rewards, dones, t)
            discounted_rewards += gamma ** (t - s) * reward
            rest = 0.0 if ended else gamma ** (t - s + 1) * values[t + 1]
            n_step.append(discounted_rewards + rest - values[s])
            if ended:
                break
        weights = [(1 - gae_lambda) * gae_lambda**k for k in range(len(n_step) - 1)]
        weights.append(gae_lambda ** (len(n_step) - 1))
        advantages.append(sum(weight * advantage for weight, advantage in zip(weights, n_step, strict=True)))
    return advantages
