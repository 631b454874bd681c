"""What looks into a training run, as the configuration asks for it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from metta_cli.config.trainer import TrainerConfig
from metta_cli.runs.directory import RunDirectory
from metta_cli.runs.monitors import MemoryMonitor, SystemMonitor
from metta_cli.training.callbacks import Callback, Expendable
from metta_cli.training.diagnostics import EpochProfiler, GradientStatistics, Monitor, WeightAnalysis
from metta_cli.training.distributed import World
from metta_cli.training.trainer import Metrics, Trainer


class MachineMonitor(Monitor):
    """Measures what the process and the machine do, and what training keeps in memory.

    Args:
        interval_epochs: epochs between measurements, at least 1.
    """

    def __init__(self, interval_epochs: int) -> None:
        super().__init__(interval_epochs)
        self.system, self.memory = SystemMonitor(), MemoryMonitor()

    def measure(self, trainer: Trainer) -> Metrics:
        """Return `system/...` and `memory/...`; the load of the processor is that since the last time."""
        self.system.sample()
        for name in ("policy", "optimizer", "experience"):
            self.memory.add(getattr(trainer, name), name)
        return self.system.stats() | self.memory.stats()


def create_monitors(
    config: TrainerConfig, policy: nn.Module, directory: RunDirectory, world: World
) -> dict[str, Callback]:
    """Return the monitors of a run by name; only the first process has any.

    One that fails is switched off, and the run goes on.

    Args:
        config: which of them, and how often.
        policy: its `analyze_weights_interval`, if it has one, says how often its weights are analysed.
        directory: traces go there unless the configuration names another place.
        world: the processes of the run.
    """
    if not world.is_first:
        return {}
    monitors: dict[str, Callback] = {}
    if config.grad_mean_variance_interval:
        monitors["gradients"] = GradientStatistics(config.grad_mean_variance_interval)
    if config.system_monitor_interval:
        monitors["system"] = MachineMonitor(config.system_monitor_interval)
    analyze_interval = getattr(policy, "analyze_weights_interval", 0)
    if analyze_interval:
        monitors["weights"] = WeightAnalysis(analyze_interval)
    if config.profiler.interval_epochs:
        place = config.profiler.profile_dir
        traces = Path(place) if place else directory.path / "profiles"
        monitors["profiler"] = EpochProfiler(config.profiler.interval_epochs, traces)
    return {name: Expendable(f"the monitor '{name}'", monitor) for name, monitor in monitors.items()}
