"""`metta export`: a policy in the form that another program reads, checked by reading it back."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from metta_cli.artifacts.atomic import make_directory, remove_directory, storage_errors, write_file
from metta_cli.artifacts.checkpoints import Checkpoint, save_checkpoint
from metta_cli.config.environment import EnvironmentSpec
from metta_cli.config.interface import EnvironmentInterface
from metta_cli.environments.builders import build
from metta_cli.environments.interface import interface_of
from metta_cli.errors import IncompatibleError, UsageError
from metta_cli.policies.contract import Policy, RecurrentState
from metta_cli.runs.external import to_checkpoint, without_adapters
from metta_cli.runs.policies import NO_TRUST, Trust, failed_to_load, playable, read_weights

BUNDLE_CLASS = "metta_cli.runs.mettagrid_policy.MettaPolicy"
TOLERANCE = 1e-5
NUM_PROBE_STEPS = 3
Act = Callable[[TensorDict, RecurrentState], Tensor]
"""From inputs and a state, which it updates, to log-probabilities `[N, A]`."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file, or the directory of a bundle.
        form: `state-dict`, `safetensors`, `torchscript` or `mettagrid`.
        environment: environment that the logits were compared in.
        largest_difference: between the log-probabilities of the policy and of what was read back.
    """

    path: str
    form: str
    environment: str
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def export_policy(
    uri: str,
    form: str,
    path: Path,
    *,
    data_dir: Path,
    environment: EnvironmentSpec,
    architecture: Mapping[str, Any],
    trust: Trust = NO_TRUST,
) -> Exported:
    """Write a policy in another form, read it back, and compare what it does.

    Args:
        uri: of a checkpoint of ours, or of a file that another tool wrote.
        form: `state-dict` and `safetensors` hold the tensors under the names of the architecture;
            `torchscript` the policy as it acts for the agents of one environment; `mettagrid` is a directory
            that MettaGrid's own runners play where this package is installed.
        path: where to; a file is replaced, a directory must be new.
        data_dir: where runs are looked for by name.
        environment: where it acts, if it is the policy of another tool; a checkpoint of ours knows its own.
        architecture: see `load_policy`.
        trust: see `load_policy`.

    Raises:
        UsageError: the directory exists.
        IncompatibleError: the policy cannot be written in that form, or what is read back acts differently.
        MettaError: it cannot be loaded.
    """
    with failed_to_load():
        found = read_weights(uri, data_dir, trust)
        if isinstance(found, Checkpoint):
            environment = found.manifest.environment
        interface = interface_of(build(environment))
        policy = playable(found, torch.device("cpu"), architecture).fit(interface)[0].eval()
    unchecked = path.with_name(f".unchecked-{path.name}")
    if form == "mettagrid":
        checkpoint = (
            found if isinstance(found, Checkpoint) else to_checkpoint(found, architecture, environment)
        )
        act = _write_bundle(checkpoint, environment, unchecked, path)
    elif form == "torchscript":
        act = _write_torchscript(policy, interface, unchecked)
    else:
        act = _write_tensors(policy, form, unchecked)
    difference = _largest_difference(policy, act, interface)
    if not difference <= TOLERANCE:
        remove_directory(unchecked) if unchecked.is_dir() else unchecked.unlink()
        raise IncompatibleError(
            f"as {form} the policy would act differently: read back, its log-probabilities differ by "
            f"{difference:.3g}; nothing was written",
            "use another form; state-dict holds the exact tensors",
        )
    unchecked.replace(path)
    return Exported(str(path), form, environment.name, difference)


def _write_tensors(policy: nn.Module, form: str, path: Path) -> Act:
    weights = {
        name: tensor.detach().clone() for name, tensor in without_adapters(policy).state_dict().items()
    }
    if form == "safetensors":
        content = safetensors.torch.save(weights, metadata={"format": "pt"})
    else:
        stream = io.BytesIO()
        torch.save(weights, stream)
        content = stream.getvalue()
    with storage_errors(path):
        write_file(path, content)
    twin = copy.deepcopy(policy)
    inner = without_adapters(twin)
    with torch.no_grad():
        for parameter in inner.parameters():
            parameter.zero_()
    is_safetensors = form == "safetensors"
    read = safetensors.torch.load_file(path) if is_safetensors else torch.load(path, weights_only=True)
    inner.load_state_dict(read)
    return _acting(twin)


def _acting(policy: nn.Module) -> Act:
    def act(td: TensorDict, state: RecurrentState) -> Tensor:
        log_probs: Tensor = policy(td, state)["full_log_probs"]
        return log_probs

    return act


class _Step(nn.Module):
    """One step of a policy with tensors only: `(env_obs, dones, *state) -> (log_probs, values, *state)`."""

    def __init__(self, policy: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.policy, self.names = policy, names

    def forward(self, env_obs: Tensor, dones: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        """Return log-probabilities `[N, A]`, values `[N]`, and the state after the step."""
        state = dict(zip(self.names, parts, strict=True))
        td = TensorDict({"env_obs": env_obs, "dones": dones}, batch_size=[env_obs.shape[0]])
        td = self.policy(td, state)
        return td["full_log_probs"], td["values"], *(state[name] for name in self.names)


def _write_torchscript(policy: nn.Module, interface: EnvironmentInterface, path: Path) -> Act:
    names = sorted(_initial_state(policy, interface))
    (td,) = _probes(interface, seed=1, num_steps=1)
    state = _initial_state(policy, interface)
    inputs = (td["env_obs"], td["dones"], *(state[name] for name in names))
    stream = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes; what it made is compared below
        try:
            traced = torch.jit.trace(_Step(policy, names), inputs, check_trace=False)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise IncompatibleError(
                f"this policy cannot be written as TorchScript: {reason}", "export it to safetensors"
            ) from error
        torch.jit.save(traced, stream)
        with storage_errors(path):
            write_file(path, stream.getvalue())
        read = torch.jit.load(str(path))  # type: ignore[no-untyped-call]

    def act(td: TensorDict, state: RecurrentState) -> Tensor:
        log_probs, _, *after = read(td["env_obs"], td["dones"], *(state[name] for name in names))
        state.update(zip(names, after, strict=True))
        return cast(Tensor, log_probs)

    return act


def _write_bundle(checkpoint: Checkpoint, environment: EnvironmentSpec, path: Path, final: Path) -> Act:
    if final.exists():
        raise UsageError(f"{final} exists already", "name a directory that does not")
    with storage_errors(path):
        make_directory(path)
        saved = save_checkpoint(path, checkpoint.manifest, checkpoint.weights)
        spec = {"class_path": BUNDLE_CLASS, "data_path": saved.name}
        write_file(path / "policy_spec.json", json.dumps(spec, indent=1) + "\n")
    with _same_log_handlers():  # MettaGrid's policies send everybody's messages to stderr once more
        from mettagrid.policy.loader import initialize_or_load_policy
        from mettagrid.policy.policy_env_interface import PolicyEnvInterface
        from mettagrid.policy.prepare_policy_spec import load_policy_spec_from_path
    info = PolicyEnvInterface.from_mg_cfg(build(environment))
    read = initialize_or_load_policy(info, load_policy_spec_from_path(path))
    return _acting(cast(nn.Module, read.network()))


@contextmanager
def _same_log_handlers() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers = handlers


def _largest_difference(policy: nn.Module, act: Act, interface: EnvironmentInterface) -> float:
    """Return the largest difference of log-probabilities over a few steps of random observations."""
    states = [_initial_state(policy, interface) for _ in range(2)]
    differences = []
    with torch.no_grad():
        for td in _probes(interface, seed=2, num_steps=NUM_PROBE_STEPS):
            expected, found = _acting(policy)(td.copy(), states[0]), act(td.copy(), states[1])
            both = torch.stack([expected, found]).clamp(min=-100.0)  # of no probability is of very little
            differences.append(float((both[0] - both[1]).abs().max()))
    return max(differences)


def _initial_state(policy: nn.Module, interface: EnvironmentInterface) -> RecurrentState:
    return cast(Policy, policy).initial_state(interface.agents_per_environment, "cpu")


def _probes(interface: EnvironmentInterface, *, seed: int, num_steps: int) -> list[TensorDict]:
    """Return inputs of a few steps: tokens of any feature anywhere in the window."""
    generator = torch.Generator().manual_seed(seed)
    num_agents, num_tokens = interface.agents_per_environment, interface.num_tokens

    def numbers(limit: int) -> Tensor:
        return torch.randint(0, limit, (num_agents, num_tokens), generator=generator)

    steps = []
    for step in range(num_steps):
        location = numbers(interface.observation_height) * 16 + numbers(interface.observation_width)
        tokens = torch.stack([location, numbers(len(interface.feature_names)), numbers(12)], dim=-1)
        inputs = {"env_obs": tokens.to(torch.uint8), "dones": torch.full((num_agents,), step == 0)}
        steps.append(TensorDict(inputs, batch_size=[num_agents]))
    return steps
