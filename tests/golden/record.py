"""Record the golden numbers (`make golden`): what the formulas give for fixed inputs, and who says so.

Prints what changed. Refuses to record from formulas that are not committed, since the recorded commit would
be a lie. `pufferlib.json` holds the numbers of pufferlib's own kernel; where its compiled one does not load
(it needs CUDA libraries), its C++ source, which is part of the package, is compiled for the CPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from cases import ADVANTAGE_PARAMETERS, experience, logits_and_masks, minibatch

from metta_cli.algorithms import advantages, diagnostics, distributions, losses, priorities

GOLDEN = Path(__file__).parent
ROOT = GOLDEN.parent.parent
DATA = GOLDEN / "data"
SOURCES = ["metta_cli/algorithms", "tests/golden/cases.py", "tests/golden/record.py"]
COMMAND = "python tests/golden/record.py"
SEED = 11


def shipped_advantages(values, rewards, dones, ratio, *parameters):
    buffer = torch.zeros_like(values)
    return advantages.compute_advantage(values, rewards, dones, ratio, buffer, *parameters, "cpu")


def shipped_losses(batch, clip_coef):
    """Return every number of one PPO minibatch, with the gradients that reach the network."""
    new, values = (batch[name].clone().requires_grad_() for name in ("log_probs", "values"))
    normalized = losses.normalize_advantages(batch["advantages"])
    behavior = batch["behavior_log_probs"]
    policy_loss = losses.clipped_policy_loss(new, behavior, normalized, clip_coef, batch["weights"])
    value_loss = losses.value_loss(values, batch["behavior_values"], batch["returns"], clip_coef)
    total = losses.total_loss(policy_loss, value_loss, batch["entropy"], vf_coef=0.44, ent_coef=0.0021)
    total.backward()
    return {
        "policy_loss": policy_loss.detach(),
        "value_loss": value_loss.detach(),
        "total_loss": total.detach(),
        "log_probs_gradient": new.grad,
        "values_gradient": values.grad,
        "approx_kl": diagnostics.approx_kl(new, behavior),
        "clip_fraction": diagnostics.clip_fraction(new, behavior, clip_coef),
        "explained_variance": diagnostics.explained_variance(values, batch["returns"]),
    }


def shipped_distributions(logits, mask, uniform):
    actions = distributions.sample_with_noise(logits, uniform, mask)
    return {
        "probabilities": distributions.log_softmax(logits, mask).exp(),
        "log_prob": distributions.log_prob(logits, actions, mask),
        "entropy": distributions.entropy(logits, mask),
        "actions": actions,
    }


def shipped_priorities(advantages, alpha, beta, num):
    probabilities = priorities.segment_priorities(advantages, alpha)
    drawn = torch.arange(num)
    return {
        "priorities": probabilities,
        "weights": priorities.importance_weights(probabilities, drawn, beta),
    }


def pufferlib_advantages(values, rewards, dones, ratio, *parameters):
    buffer = torch.zeros_like(values)
    torch.ops.pufferlib.compute_puff_advantage(values, rewards, dones, ratio, buffer, *parameters)
    return buffer


FORMULAS: dict[str, Callable] = {
    "advantages": shipped_advantages,
    "losses": shipped_losses,
    "distributions": shipped_distributions,
    "priorities": shipped_priorities,
    "pufferlib": pufferlib_advantages,
}


def inputs_of(name: str) -> list[list[Any]]:
    """Return the arguments of every recorded call of a formula."""
    if name in ("advantages", "pufferlib"):
        inputs = experience(SEED, segments=5, horizon=8, dtype=torch.float32)
        return [[*inputs, *parameters] for parameters in ADVANTAGE_PARAMETERS]
    if name == "losses":
        return [[minibatch(SEED, segments=3, horizon=5), clip_coef] for clip_coef in (0.1, 0.3)]
    if name == "distributions":
        return [list(logits_and_masks(SEED, rows=6, actions=5))]
    advantages = minibatch(SEED, segments=6, horizon=5)["advantages"]
    return [[advantages, 0.8, 0.6, 4], [advantages, 0.0, 0.6, 4]]


def load_pufferlib_kernel() -> str:
    """Register pufferlib's advantage kernel with torch and return what it is."""
    package = f"pufferlib-core {version('pufferlib-core')}"
    try:
        importlib.import_module("pufferlib._C")
    except ImportError:
        from torch.utils import cpp_extension

        origin = importlib.util.find_spec("pufferlib").origin
        source = Path(origin).parent / "extensions" / "pufferlib.cpp"
        with tempfile.TemporaryDirectory() as build:
            cpp_extension.load("_C", [str(source)], build_directory=build, is_python_module=False)
        return f"{package}, its extensions/pufferlib.cpp compiled for the CPU"
    return f"{package}, its compiled kernel"


def to_json(value: Any) -> Any:
    """Replace every tensor by its data type and its numbers."""
    if isinstance(value, torch.Tensor):
        return {"dtype": str(value.dtype).removeprefix("torch."), "data": value.tolist()}
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return value


def from_json(value: Any) -> Any:
    """Undo `to_json`."""
    if isinstance(value, dict) and value.keys() == {"dtype", "data"}:
        return torch.tensor(value["data"], dtype=getattr(torch, value["dtype"]))
    if isinstance(value, dict):
        return {key: from_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [from_json(entry) for entry in value]
    return value


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def record(name: str, maker: str) -> None:
    """Write the file of one formula and say whether its numbers changed."""
    calls = [
        {"inputs": to_json(inputs), "output": to_json(FORMULAS[name](*inputs))} for inputs in inputs_of(name)
    ]
    path = DATA / f"{name}.json"
    before = json.loads(path.read_text())["calls"] if path.exists() else None
    if before == calls:
        print(f"{path.relative_to(ROOT)}: unchanged")
        return
    made_by = {
        "numbers_of": maker,
        "command": COMMAND,
        "commit": git("rev-parse", "HEAD"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seed": SEED,
    }
    path.write_text(json.dumps({"made_by": made_by, "calls": calls}, indent=1) + "\n")
    print(f"{path.relative_to(ROOT)}: {'new' if before is None else 'CHANGED, see `git diff`'}")


def main() -> int:
    if dirty := git("status", "--porcelain", "--", *SOURCES):
        print(
            f"error: commit these first, the record names the commit it was made from:\n{dirty}",
            file=sys.stderr,
        )
        return 1
    DATA.mkdir(exist_ok=True)
    kernel = load_pufferlib_kernel()
    for name in FORMULAS:
        record(name, kernel if name == "pufferlib" else "metta_cli.algorithms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
