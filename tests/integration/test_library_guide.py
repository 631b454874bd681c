"""Every piece of Python in docs/library.md runs, one after the other, as a reader would type it."""

import re
from pathlib import Path

import pytest

from metta_cli import api
from metta_cli.policies.registry import _registered, create_policy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE

GUIDE = (Path(__file__).parents[2] / "docs/library.md").read_text()


def test_the_code_of_the_guide_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(_registered, "my_agent", None)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 10
    exec(compile("\n".join(blocks), "docs/library.md", "exec"), {"__name__": "guide"})
    assert "guide:v2" in capsys.readouterr().out
    assert (tmp_path / "train_dir" / "guide" / "checkpoints" / "guide:v3").is_dir()


@pytest.mark.parametrize("size", ["tiny", "small", "med"])
def test_the_table_of_architectures_counts_right(size):
    count = sum(
        part.numel() for part in create_policy(f"latent_attn_{size}", EXAMPLE_INTERFACE, {}).parameters()
    )
    assert f"| `latent_attn_{size}` | {count:,} |" in GUIDE


def test_the_table_of_the_mixin_names_what_it_has():
    table = GUIDE.split("| the mixin has | for |")[1].split("\n\n")[0]
    names = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    methods = {name.split("(")[0] for row in names for name in re.findall(r"`([^`]+)`", row)}
    assert len(methods) >= 12
    assert all(callable(getattr(api.PyTorchAgentMixin, name)) for name in methods)
