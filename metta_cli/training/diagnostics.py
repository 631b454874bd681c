"""Looks into a training run at intervals: gradients, weights, and where the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from metta_cli.artifacts.atomic import make_directory
from metta_cli.training.callbacks import Callback

if TYPE_CHECKING:
    from torch.profiler import profile

    from metta_cli.training.trainer import Metrics, Trainer


class Monitor(Callback):
    """Measures something every so many epochs; override `measure`.

    Args:
        interval_epochs: epochs between measurements, at least 1.
    """

    def __init__(self, interval_epochs: int) -> None:
        self.interval_epochs = interval_epochs

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """Return what is measured where the number of epochs is a multiple of the interval."""
        return {} if trainer.state.epoch % self.interval_epochs else self.measure(trainer)

    def measure(self, trainer: Trainer) -> Metrics:
        """Return what there is to log."""
        raise NotImplementedError


class GradientStatistics(Monitor):
    """Measures the gradient of every parameter, as the last minibatch of an epoch left it."""

    def measure(self, trainer: Trainer) -> Metrics:
        """Return mean, variance and 2-norm, after clipping, as `gradients/PARAMETER/...`."""
        measured: Metrics = {}
        for name, parameter in trainer.policy.named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.float()
                measured[f"gradients/{name}/mean"] = float(gradient.mean())
                measured[f"gradients/{name}/variance"] = float(gradient.var(correction=0))
                measured[f"gradients/{name}/norm"] = float(gradient.norm())
        return measured


class WeightAnalysis(Monitor):
    """Has a policy analyse its own weights: `compute_weight_metrics` of `PyTorchAgentMixin`."""

    def measure(self, trainer: Trainer) -> Metrics:
        """Return what the policy found, as `weights/METRIC/LAYER`."""
        measured: Metrics = {}
        for layer in trainer.policy.compute_weight_metrics():
            name = layer.pop("name")
            measured |= {f"weights/{metric}/{name}": float(value) for metric, value in layer.items()}
        return measured


class EpochProfiler(Callback):
    """Writes a trace of a whole epoch every so often: `epoch_N.json`, for chrome://tracing or Perfetto.

    Args:
        interval_epochs: epochs between traces, at least 1; epochs are traced whose number it divides.
        directory: where the traces go; made when the first is written.
    """

    def __init__(self, interval_epochs: int, directory: Path) -> None:
        self.interval_epochs, self.directory = interval_epochs, directory
        self._profile: profile | None = None

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Begin to trace if the epoch that starts is due."""
        if (trainer.state.epoch + 1) % self.interval_epochs:
            return
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._profile = torch.profiler.profile(activities=activities)
        self._profile.start()

    def on_epoch_end(self, trainer: Trainer, metrics: Metrics) -> Metrics:
        """Write the trace, if there is one."""
        if self._profile is not None:
            running, self._profile = self._profile, None
            running.stop()
            make_directory(self.directory)
            running.export_chrome_trace(str(self.directory / f"epoch_{trainer.state.epoch}.json"))
        return {}
