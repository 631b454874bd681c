"""Deliberate mistakes that the tests must notice, and the runner that makes them (`make mutants`).

Each mistake goes into a fresh copy of the package; a test must then fail. Names on the command line restrict
the run to the mistakes of files whose path contains one of them: `python tests/golden/mutations.py losses`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NUM_WORKERS = 2
PYTEST_TESTS_FAILED = 1
# The first compares this list with the code, and the second the code with its own past: neither knows what
# is right.
NO_WITNESSES = ("tests/golden/test_mutations.py", "tests/golden/test_recorded.py")


@dataclass(frozen=True)
class Mutation:
    """One mistake.

    Attributes:
        file: path below `metta_cli/`.
        mistake: what is wrong, in words.
        old: text that occurs exactly once in the file.
        new: what the mistake puts in its place.
        tests: what has to turn red; paths for pytest, separated by blanks.
    """

    file: str
    mistake: str
    old: str
    new: str
    tests: str = "tests/golden"

    def mutated(self, root: Path) -> str:
        """Return the text of the file with the mistake in it."""
        text = (root / "metta_cli" / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {text.count(self.old)} times, and not once: {self.old}")
        return text.replace(self.old, self.new)


ADVANTAGES, LOSSES = "algorithms/advantages.py", "algorithms/losses.py"
DISTRIBUTIONS, DIAGNOSTICS = "algorithms/distributions.py", "algorithms/diagnostics.py"
PRIORITIES, SHAPES = "algorithms/priorities.py", "algorithms/shapes.py"

MUTATIONS = [
    Mutation(ADVANTAGES, "reward of the step before", "errors = rewards[:, 1:]", "errors = rewards[:, :-1]"),
    Mutation(ADVANTAGES, "done of the step before", "1.0 - dones[:, 1:]", "1.0 - dones[:, :-1]"),
    Mutation(ADVANTAGES, "done ignored", "1.0 - dones[:, 1:]", "1.0 - 0.0 * dones[:, 1:]"),
    Mutation(ADVANTAGES, "done inverted", "1.0 - dones[:, 1:]", "dones[:, 1:]"),
    Mutation(ADVANTAGES, "bootstrap across a done", "gamma * alive * values[:, 1:]", "gamma * values[:, 1:]"),
    Mutation(ADVANTAGES, "trace across a done", "(max=vtrace_c_clip) * alive", "(max=vtrace_c_clip)"),
    Mutation(ADVANTAGES, "value not subtracted", " - values[:, :-1]", ""),
    Mutation(ADVANTAGES, "value error of the wrong sign", " - values[:, :-1]", " + values[:, :-1]"),
    Mutation(ADVANTAGES, "discount missing in the error", "[:, 1:] + gamma * alive", "[:, 1:] + alive"),
    Mutation(ADVANTAGES, "discount missing in the trace", "gamma * gae_lambda * ratio", "gae_lambda * ratio"),
    Mutation(ADVANTAGES, "lambda dropped", "gamma * gae_lambda * ratio", "gamma * ratio"),
    Mutation(ADVANTAGES, "rho clip missing", ".clamp(max=vtrace_rho_clip)", ""),
    Mutation(ADVANTAGES, "c clip missing", ".clamp(max=vtrace_c_clip)", ""),
    Mutation(ADVANTAGES, "c clip in place of rho clip", "(max=vtrace_rho_clip)", "(max=vtrace_c_clip)"),
    Mutation(ADVANTAGES, "rho clip in place of c clip", "(max=vtrace_c_clip)", "(max=vtrace_rho_clip)"),
    Mutation(ADVANTAGES, "rho is a lower bound", "(max=vtrace_rho_clip)", "(min=vtrace_rho_clip)"),
    Mutation(ADVANTAGES, "error not weighted", "ratio[:, :-1].clamp(max=vtrace_rho_clip) * errors", "errors"),
    Mutation(
        ADVANTAGES,
        "ratio of the next step",
        "ratio[:, :-1].clamp(max=vtrace_rho_clip)",
        "ratio[:, 1:].clamp(max=vtrace_rho_clip)",
    ),
    Mutation(
        ADVANTAGES,
        "last column written",
        "    return advantages.to(device)",
        "    advantages[:, -1] = 0\n    return advantages.to(device)",
    ),
    Mutation(ADVANTAGES, "shifted by a column", "advantages[:, :-1] =", "advantages[:, 1:] ="),
    Mutation(ADVANTAGES, "buffer not filled", "advantages[:, :-1] =", "advantages.clone()[:, :-1] ="),
    Mutation(ADVANTAGES, "a copy is returned", "return advantages.to(device)", "return advantages.clone()"),
    Mutation(ADVANTAGES, "gradient leaks through the ratio", "@torch.no_grad()\n", ""),
    Mutation(ADVANTAGES, "trace not accumulated", "step_sum.addcmul_(decay, next_sum)", "pass"),
    Mutation(
        ADVANTAGES, "trace subtracted", "addcmul_(decay, next_sum)", "addcmul_(decay, next_sum, value=-1)"
    ),
    Mutation(
        ADVANTAGES,
        "trace runs forward in time",
        "zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True)",
        "zip(steps[:-1], steps[1:], strict=True)",
    ),
    Mutation(ADVANTAGES, "rewards not checked", "        rewards=rewards,\n", ""),
    Mutation(
        LOSSES,
        "sign of the policy loss",
        "torch.maximum(-advantages * ratio, -",
        "torch.minimum(advantages * ratio, ",
    ),
    Mutation(LOSSES, "optimistic surrogate", "torch.maximum(-advantages", "torch.minimum(-advantages"),
    Mutation(LOSSES, "surrogate clip missing", "ratio.clamp(1 - clip_coef, 1 + clip_coef)", "ratio"),
    Mutation(LOSSES, "surrogate clipped above only", "ratio.clamp(1 - clip_coef, 1", "ratio.clamp(0, 1"),
    Mutation(LOSSES, "surrogate clipped below only", "(1 - clip_coef, 1 + clip_coef)", "(1 - clip_coef, 99)"),
    Mutation(
        LOSSES, "surrogate always clipped", "-advantages * ratio, -adv", "-advantages * clipped_ratio, -adv"
    ),
    Mutation(
        LOSSES, "ratio upside down", "(log_probs - behavior_log_probs)", "(behavior_log_probs - log_probs)"
    ),
    Mutation(LOSSES, "ratio unbounded", ".clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)", ""),
    Mutation(LOSSES, "weights not applied", "advantages * weights.detach()", "advantages"),
    Mutation(
        LOSSES,
        "gradient leaks into the advantages",
        "    advantages = advantages.detach()\n    if weights",
        "    if weights",
    ),
    Mutation(LOSSES, "gradient leaks into the weights", "weights.detach()", "weights"),
    Mutation(
        LOSSES,
        "gradient leaks into the behavior",
        "(log_probs, behavior_log_probs.detach())",
        "(log_probs, behavior_log_probs)",
    ),
    Mutation(
        LOSSES, "weights of any shape", "expect_shape((log_probs.shape[0], 1), weights=weights)", "pass"
    ),
    Mutation(LOSSES, "value clip missing", "if clip_coef is not None:", "if False:"),
    Mutation(LOSSES, "optimistic value loss", "torch.maximum(squared_error", "torch.minimum(squared_error"),
    Mutation(
        LOSSES,
        "value clipped around the new value",
        "(behavior_values + change - returns)",
        "(values + change - returns)",
    ),
    Mutation(LOSSES, "value clipped on one side", "clamp(-clip_coef, clip_coef)", "clamp(max=clip_coef)"),
    Mutation(
        LOSSES, "value loss not halved", "return 0.5 * squared_error.mean()", "return squared_error.mean()"
    ),
    Mutation(
        LOSSES,
        "gradient leaks into the targets",
        "behavior_values, returns = behavior_values.detach(), returns.detach()",
        "pass",
    ),
    Mutation(
        LOSSES, "sign of the entropy bonus", "- ent_coef * entropy.mean()", "+ ent_coef * entropy.mean()"
    ),
    Mutation(LOSSES, "entropy summed", "ent_coef * entropy.mean()", "ent_coef * entropy.sum()"),
    Mutation(
        LOSSES, "sign of the value loss", "return policy_loss + vf_coef", "return policy_loss - vf_coef"
    ),
    Mutation(
        LOSSES,
        "coefficients exchanged",
        "vf_coef * value_loss - ent_coef * entropy.mean",
        "ent_coef * value_loss - vf_coef * entropy.mean",
    ),
    Mutation(LOSSES, "biased deviation", "std(correction=1)", "std(correction=0)"),
    Mutation(LOSSES, "mean not subtracted", "(advantages - advantages.mean())", "advantages"),
    Mutation(LOSSES, "epsilon missing", " + _NORMALIZATION_EPS)", ")"),
    Mutation(
        LOSSES,
        "rounding errors blown up",
        "torch.where(is_constant, torch.zeros_like(advantages), normalized)",
        "normalized",
    ),
    Mutation(
        DISTRIBUTIONS, "mask in the opposite sense", "masked_fill(~action_mask", "masked_fill(action_mask"
    ),
    Mutation(
        DISTRIBUTIONS,
        "mask ignored when sampling",
        "gumbel).argmax(-1)",
        "gumbel).nan_to_num(neginf=0.0).argmax(-1)",
    ),
    Mutation(DISTRIBUTIONS, "empty rows accepted", "if not bool(action_mask.any(-1).all()):", "if False:"),
    Mutation(DISTRIBUTIONS, "numbers accepted as mask", "if action_mask.dtype != torch.bool:", "if False:"),
    Mutation(DISTRIBUTIONS, "sign of the entropy", "surprise = -log_probs", "surprise = log_probs"),
    Mutation(DISTRIBUTIONS, "entropy NaN at probability 0", ".masked_fill(log_probs.isneginf(), 0.0)", ""),
    Mutation(DISTRIBUTIONS, "sign of the noise", "gumbel = -torch.log(", "gumbel = torch.log("),
    Mutation(DISTRIBUTIONS, "greedy instead of random", "(logits + gumbel)", "logits"),
    Mutation(DISTRIBUTIONS, "uniform noise instead of Gumbel", "(logits + gumbel)", "(logits + uniform)"),
    Mutation(DISTRIBUTIONS, "noise unbounded", "uniform.clamp(limits.tiny, 1.0 - limits.eps / 2)", "uniform"),
    Mutation(DISTRIBUTIONS, "generator not used", "generator=generator, device", "device"),
    Mutation(
        DISTRIBUTIONS,
        "log_prob of the first action",
        "actions.long().unsqueeze(-1)",
        "0 * actions.long().unsqueeze(-1)",
    ),
    Mutation(DIAGNOSTICS, "plain estimator of KL", "(log_ratio.expm1() - log_ratio)", "(-log_ratio)"),
    Mutation(
        DIAGNOSTICS, "sign of the KL", "(log_ratio.expm1() - log_ratio)", "(log_ratio - log_ratio.expm1())"
    ),
    Mutation(
        DIAGNOSTICS,
        "digits of the KL lost",
        "log_ratio.expm1() - log_ratio",
        "(log_ratio.exp() - 1) - log_ratio",
    ),
    Mutation(DIAGNOSTICS, "clip fraction of one side", "change.abs() > clip_coef", "change > clip_coef"),
    Mutation(DIAGNOSTICS, "clip fraction inverted", "change.abs() > clip_coef", "change.abs() < clip_coef"),
    Mutation(DIAGNOSTICS, "unexplained variance", "explained = 1.0 - (returns", "explained = (returns"),
    Mutation(
        DIAGNOSTICS, "variance of the values", "/ returns.var(correction=0)", "/ values.var(correction=0)"
    ),
    Mutation(
        DIAGNOSTICS,
        "equal targets explained",
        "torch.where(is_constant, torch.zeros_like(explained), explained)",
        "explained",
    ),
    Mutation(PRIORITIES, "signed advantages", "advantages.detach().abs()", "advantages.detach()"),
    Mutation(PRIORITIES, "alpha not applied", ".sum(dim=1) ** prio_alpha", ".sum(dim=1)"),
    Mutation(PRIORITIES, "unreachable segments", " + _PRIORITY_FLOOR", ""),
    Mutation(PRIORITIES, "priorities not normalized", "return weights / weights.sum()", "return weights"),
    Mutation(PRIORITIES, "gradient through priorities", "advantages.detach().abs()", "advantages.abs()"),
    Mutation(PRIORITIES, "drawn twice", "replacement=False", "replacement=True"),
    Mutation(
        PRIORITIES,
        "draws ignore the generator",
        "replacement=False, generator=generator",
        "replacement=False",
    ),
    Mutation(PRIORITIES, "beta reversed", "priorities[indices]) ** -beta", "priorities[indices]) ** beta"),
    Mutation(
        PRIORITIES, "weights of the first segments", "priorities[indices]", "priorities[: len(indices)]"
    ),
    Mutation(PRIORITIES, "weights unbounded", "(weights / weights.max())", "weights"),
    Mutation(PRIORITIES, "weights relative to the smallest", "weights.max()", "weights.min()"),
    Mutation(PRIORITIES, "segments left out", "num_segments % minibatch_segments != 0", "False"),
    Mutation(
        PRIORITIES,
        "segments in order",
        "torch.randperm(num_segments, generator=generator)",
        "torch.arange(num_segments)",
    ),
    Mutation(
        PRIORITIES,
        "permutation ignores the generator",
        "(num_segments, generator=generator)",
        "(num_segments)",
    ),
    Mutation(PRIORITIES, "annealing reversed", "+ (1.0 - prio_beta0)", "- (1.0 - prio_beta0)"),
    Mutation(PRIORITIES, "annealing without alpha", " * prio_alpha * progress", " * progress"),
    Mutation(
        PRIORITIES, "annealing beyond the end", "min(epoch / total_epochs, 1.0)", "epoch / total_epochs"
    ),
    Mutation(SHAPES, "another number of dimensions accepted", "tensor.dim() == len(shape) and ", ""),
    Mutation(SHAPES, "every shape accepted", "if not fits:", "if False:"),
]


def copy_package(destination: Path, mutation: Mutation | None) -> Path:
    """Copy what the tests need into a folder, with or without a mistake, and return the folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("metta_cli", "tests"):
        shutil.copytree(ROOT / name, destination / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", destination)
    if mutation is not None:
        (destination / "metta_cli" / mutation.file).write_text(mutation.mutated(ROOT))
    return destination


def run_python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy of the package; the copy hides the installed package."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def run_tests(root: Path, tests: str) -> subprocess.CompletedProcess[str]:
    ignored = [f"--ignore={path}" for path in NO_WITNESSES]
    return run_python(root, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *ignored, *tests.split())


def unnoticed(mutation: Mutation) -> str | None:
    """Make one mistake; return None if a test fails because of it, else what happened instead."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_tests(copy_package(Path(folder), mutation), mutation.tests)
    if result.returncode == PYTEST_TESTS_FAILED:
        return None
    if result.returncode == 0:
        return f"every test of {mutation.tests} passed"
    return f"the tests did not run:\n{result.stdout[-1000:]}{result.stderr[-1000:]}"


def check_copy(mutations: list[Mutation]) -> str | None:
    """Return why the results would mean nothing: tests that fail anyway, or that see another package."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy_package(Path(folder).resolve(), None)
        location = run_python(root, "-c", "import metta_cli; print(metta_cli.__file__)").stdout.strip()
        if not Path(location).is_relative_to(root):
            return f"the tests would see {location} and not the copy in {root}"
        result = run_tests(root, " ".join(dict.fromkeys(" ".join(m.tests for m in mutations).split())))
        return result.stdout[-3000:] + result.stderr[-1000:] if result.returncode != 0 else None


def main(names: list[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not names or any(name in mutation.file for name in names)]
    if not chosen:
        print(f"error: no mistake is listed for {' '.join(names)}", file=sys.stderr)
        return 2
    if problem := check_copy(chosen):
        print(f"error: without any mistake the tests fail:\n{problem}", file=sys.stderr)
        return 1
    num_unnoticed = 0
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        for mutation, problem in zip(chosen, pool.map(unnoticed, chosen), strict=True):
            num_unnoticed += problem is not None
            print(
                f"{'noticed' if problem is None else 'UNNOTICED'}: {mutation.file}: {mutation.mistake}",
                flush=True,
            )
            if problem is not None:
                print(f"    {problem}", flush=True)
    print(f"{len(chosen) - num_unnoticed} of {len(chosen)} mistakes noticed")
    return 1 if num_unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
