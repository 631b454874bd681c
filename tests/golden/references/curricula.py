"""Curricula one task and one episode at a time, with lists and loops."""

import math


def reweight(success, smoothing):
    return (1 - smoothing) * success / (success + smoothing * (1 - 2 * success))


class LearningProgress:
    """The statistics of learning progress, and what they make of the tasks."""

    def __init__(self, num_tasks, *, timescale, smoothing, random_share, memory):
        self.timescale, self.smoothing = timescale, smoothing
        self.random_share, self.memory = random_share, memory
        self.outcomes = [[] for _ in range(num_tasks)]
        self.fresh = [0] * num_tasks
        self.baseline = [None] * num_tasks
        self.fast, self.slow, self.success = ([0.0] * num_tasks for _ in range(3))

    def record(self, task, score):
        self.outcomes[task] = [*self.outcomes[task], min(1.0, max(0.0, score))][-self.memory :]
        self.fresh[task] += 1

    def update(self):
        for task, outcomes in enumerate(self.outcomes):
            if not self.fresh[task]:
                continue
            self.fresh[task] = 0
            rate = sum(outcomes) / len(outcomes)
            if self.baseline[task] is None:
                base = self.baseline[task] = min(rate, 0.75)
                learned = max(0.0, rate - base) / (1 - base)
                self.fast[task] = self.slow[task] = learned
                self.success[task] = rate
                continue
            base = self.baseline[task]
            learned = max(0.0, rate - base) / (1 - base)
            self.fast[task] = (1 - self.timescale) * self.fast[task] + self.timescale * learned
            self.slow[task] = (1 - self.timescale) * self.slow[task] + self.timescale * self.fast[task]
            self.success[task] = (1 - self.timescale) * self.success[task] + self.timescale * rate

    def probabilities(self):
        count = len(self.outcomes)
        progress = [
            abs(reweight(fast, self.smoothing) - reweight(slow, self.smoothing))
            for fast, slow in zip(self.fast, self.slow, strict=True)
        ]
        counted = [i for i in range(count) if progress[i] > 0 or self.success[i] > 0]
        weights = [0.0] * count
        if counted:
            mean = sum(progress[i] for i in counted) / len(counted)
            variance = sum((progress[i] - mean) ** 2 for i in counted) / len(counted)
            for i in counted:
                score = (progress[i] - mean) / math.sqrt(variance) if variance > 0 else 0.0
                weights[i] = 1 / (1 + math.exp(-score))
            total = sum(weights)
            weights = [weight / total for weight in weights]
        else:
            weights = [1 / count] * count
        most = max(weights)
        weights = [weights[i] if self.outcomes[i] else most for i in range(count)]
        total = sum(weights)
        return [(1 - self.random_share) * weight / total + self.random_share / count for weight in weights]


class LowReward:
    """Running means and best scores, and the weights that follow from them."""

    def __init__(self, num_tasks, *, rate, uniform_share):
        self.rate, self.uniform_share = rate, uniform_share
        self.average, self.best = [None] * num_tasks, [0.0] * num_tasks

    def record(self, task, score):
        score = max(score, 0.0)
        known = self.average[task]
        self.average[task] = score if known is None else (1 - self.rate) * known + self.rate * score
        self.best[task] = max(self.best[task], score)

    def probabilities(self):
        weights = [
            None if average is None else 1e-6 + best / (average + 1e-6)
            for average, best in zip(self.average, self.best, strict=True)
        ]
        unseen = max([1.0, *(weight for weight in weights if weight is not None)])
        weights = [unseen if weight is None else weight for weight in weights]
        share, count = self.uniform_share, len(weights)
        return [(1 - share) * weight / sum(weights) + share / count for weight in weights]
