"""What looks into a run measures what it says."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from metta_cli.training.diagnostics import EpochProfiler, GradientStatistics, WeightAnalysis


def trainer_with(policy, epoch):
    return SimpleNamespace(policy=policy, state=SimpleNamespace(epoch=epoch))


def test_gradient_statistics_are_those_of_numpy():
    layer = nn.Linear(3, 2)
    layer(torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])).square().sum().backward()
    measured = GradientStatistics(2).on_epoch_end(trainer_with(layer, 4), {})
    gradient = layer.weight.grad.numpy().astype(np.float64)
    assert set(measured) == {
        f"gradients/{name}/{kind}" for name in ("weight", "bias") for kind in ("mean", "variance", "norm")
    }
    np.testing.assert_allclose(measured["gradients/weight/mean"], gradient.mean(), rtol=1e-5)
    np.testing.assert_allclose(measured["gradients/weight/variance"], gradient.var(), rtol=1e-5)
    np.testing.assert_allclose(measured["gradients/weight/norm"], np.sqrt((gradient**2).sum()), rtol=1e-5)


def test_gradient_statistics_come_at_their_interval_only():
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    counts = [
        len(GradientStatistics(3).on_epoch_end(trainer_with(layer, epoch), {})) for epoch in range(1, 7)
    ]
    assert counts == [0, 0, 6, 0, 0, 6]


def test_a_parameter_without_a_gradient_is_left_out():
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    layer.bias.grad = None
    assert not any("bias" in name for name in GradientStatistics(1).on_epoch_end(trainer_with(layer, 1), {}))


def test_weight_analysis_asks_the_policy_at_its_interval():
    class Agent(nn.Module):
        def compute_weight_metrics(self):
            return [{"name": "encoder", "norm": 2.0, "effective_rank": 3}]

    analysis = WeightAnalysis(2)
    assert analysis.on_epoch_end(trainer_with(Agent(), 1), {}) == {}
    assert analysis.on_epoch_end(trainer_with(Agent(), 2), {}) == {
        "weights/norm/encoder": 2.0,
        "weights/effective_rank/encoder": 3.0,
    }


def test_a_trace_of_every_second_epoch_is_written(tmp_path):
    profiler = EpochProfiler(2, tmp_path / "profiles")
    for epoch in range(4):
        profiler.on_epoch_start(trainer_with(None, epoch))
        torch.ones(4, 4).mm(torch.ones(4, 4))
        profiler.on_epoch_end(trainer_with(None, epoch + 1), {})
    traces = sorted((tmp_path / "profiles").iterdir())
    assert [trace.name for trace in traces] == ["epoch_2.json", "epoch_4.json"]
    assert "aten::mm" in {event.get("name") for event in json.loads(traces[0].read_text())["traceEvents"]}
