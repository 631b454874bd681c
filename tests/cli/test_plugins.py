"""`metta plugins`: list, check, new."""

import json
import sys

import pytest


def rows(outcome):
    return {row["name"]: row for row in json.loads(outcome.out)}


def test_the_list_says_what_is_installed_and_imports_nothing(metta, install_policy):
    install_policy("deep-dist", "deep", "class Policy: pass")
    outcome = metta("plugins", "list", "--format", "json")
    assert rows(outcome)["deep"] == {
        "name": "deep",
        "kind": "policy",
        "distribution": "deep-dist",
        "version": "1.0",
        "target": "deep_dist_deep:Policy",
        "state": "not checked",
        "reason": None,
    }
    assert rows(outcome)["file"]["kind"] == "loader"
    assert "deep_dist_deep" not in sys.modules


def test_the_check_tells_the_reason_of_a_broken_one_and_ends_with_3(metta_process, install_policy, tmp_path):
    install_policy("good-dist", "good", "class Policy: pass")
    install_policy("bad-dist", "bad", "print('noise'); raise SystemExit('no licence')")
    outcome = metta_process(
        "plugins", "list", "--check", "--format", "json", PYTHONPATH=str(tmp_path / "site")
    )
    found = rows(outcome)
    assert outcome.code == 3
    assert (found["good"]["state"], found["good"]["reason"]) == ("ok", None)
    assert (found["bad"]["state"], found["bad"]["reason"]) == ("broken", "SystemExit: no licence")
    assert "bad-dist" in outcome.err.splitlines()[-1]


def test_a_name_that_two_distributions_claim_is_broken_without_a_check(metta, install_policy):
    install_policy("first-dist", "twin", "class Policy: pass")
    install_policy("second-dist", "twin", "class Policy: pass")
    outcome = metta("plugins", "list", "--format", "json")
    twins = [row for row in json.loads(outcome.out) if row["name"] == "twin"]
    assert [row["distribution"] for row in twins] == ["first-dist", "second-dist"]
    for row in twins:
        assert row["state"] == "broken"
        assert "first-dist 1.0" in row["reason"]
        assert "second-dist 1.0" in row["reason"]
    assert outcome.code == 0


def test_a_selection_of_nothing_installed_is_a_mistake(metta, monkeypatch):
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "metta-clo")
    outcome = metta("plugins", "list")
    assert outcome.code == 2
    assert (
        outcome.err
        == "error: unknown distribution in METTA_LOAD_PLUGINS: 'metta-clo'\nhint: did you mean 'metta-cli'?\n"
    )


FORGETFUL = """
from torch import nn

class Policy(nn.Module):
    def __init__(self, env):
        super().__init__()
        print("a policy that talks")

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        raise RuntimeError("not today")
"""


def test_each_broken_promise_of_a_policy_is_explained_in_one_line(metta_process, install_policy, tmp_path):
    install_policy("odd-dist", "odd", FORGETFUL)
    site = str(tmp_path / "site")
    outcome = metta_process("plugins", "check", "odd", "--format", "json", PYTHONPATH=site)
    found = {row["test"]: row for row in json.loads(outcome.out)}
    assert outcome.code == 3
    assert found["test_initial_state_is_zero_with_one_column_per_agent"]["state"] == "ok"
    broken = [row for row in found.values() if row["state"] == "broken"]
    assert len(broken) > 10
    assert {row["reason"] for row in broken} == {"RuntimeError: not today (odd_dist_odd.py, line 13)"}
    assert "odd-dist 1.0" in outcome.err.splitlines()[-2]
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('no licence')", "cannot be loaded: ImportError: no licence"),
        ("class Policy:\n    def __init__(self, env): pass", "made a Policy, which is not a policy"),
        ("def Policy(env):\n    raise SystemExit('bye')", "SystemExit: bye (bad_dist_bad.py, line 2)"),
    ],
)
def test_a_policy_that_cannot_be_made_is_one_broken_promise(
    metta_process, install_policy, tmp_path, source, reason
):
    install_policy("bad-dist", "bad", source)
    site = str(tmp_path / "site")
    outcome = metta_process("plugins", "check", "bad", "--format", "json", PYTHONPATH=site)
    (row,) = json.loads(outcome.out)
    assert outcome.code == 3
    assert (row["test"], row["state"]) == ("make_policy", "broken")
    assert reason in row["reason"]


def test_what_the_contract_found_is_said_in_its_words(metta_process, install_policy, tmp_path):
    source = FORGETFUL.replace("return {}", "import torch; return {'h': torch.ones(2, 3)}")
    install_policy("odd-dist", "odd", source)
    site = str(tmp_path / "site")
    outcome = metta_process("plugins", "check", "odd", "--format", "json", PYTHONPATH=site)
    found = {row["test"]: row["reason"] for row in json.loads(outcome.out)}
    assert found["test_initial_state_is_zero_with_one_column_per_agent"] == (
        "h has shape [2, 3], expected [L, N, H]"
    )


@pytest.mark.parametrize(
    ("body", "test", "reason"),
    [
        ("pass", "make_loader", "AttributeError: 'Policy' object has no attribute 'load'"),
        ("def load(self, uri): ...", "make_loader", "TypeError: got an unexpected keyword argument"),
        (
            "def load(self, uri, *, device, data_dir): raise KeyError(uri.path)",
            "test_nothing_there_is_not_found",
            "KeyError: ",
        ),
    ],
)
def test_a_broken_promise_of_a_loader_is_explained(
    metta_process, install_policy, tmp_path, body, test, reason
):
    install_policy("ftp-dist", "ftp", f"class Policy:\n    {body}")
    entry_points = tmp_path / "site/ftp_dist-1.0.dist-info/entry_points.txt"
    entry_points.write_text("[metta_cli.loaders]\nftp = ftp_dist_ftp:Policy\n")
    site = str(tmp_path / "site")
    outcome = metta_process("plugins", "check", "ftp", "--format", "json", PYTHONPATH=site)
    assert outcome.code == 3
    (broken,) = [row for row in json.loads(outcome.out) if row["state"] == "broken"]
    assert broken["test"] == test
    assert broken["reason"].startswith(reason)


def test_a_policy_that_takes_the_process_down_is_named(metta_process, install_policy, tmp_path):
    install_policy("grim-dist", "grim", "import os\nos._exit(9)")
    outcome = metta_process("plugins", "check", "grim", PYTHONPATH=str(tmp_path / "site"))
    assert outcome.code == 3
    assert outcome.err.splitlines()[-2] == (
        "error: policy 'grim' of grim-dist 1.0 ended the process that checked it, with code 9"
    )


def test_a_plugin_that_is_not_installed_cannot_be_checked(metta):
    outcome = metta("plugins", "check", "fasst")
    assert outcome.code == 2
    assert outcome.err == "error: unknown plugin 'fasst'\nhint: did you mean 'fast'?\n"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("policy", name)
        for name in ("", "Big", "2nd", "a-b", "a__b", "a_", "../up", "a b", "caf\u00e9", "x" * 65, "a\n")
    ]
    + [("loader", "with_underscore"), ("loader", "a+b")],
)
def test_a_name_that_no_package_can_have_is_refused(metta, tmp_path, kind, name):
    outcome = metta("plugins", "new", "--kind", kind, "--directory", str(tmp_path / "new"), "--", name)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {kind} name {name!r} cannot be used\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("kind", "name"), [("policy", "fast"), ("loader", "file")])
def test_a_name_that_is_taken_is_refused(metta, empty_working_directory, kind, name):
    outcome = metta("plugins", "new", name, "--kind", kind)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {kind} '{name}' of metta-cli ")
    assert list(empty_working_directory.iterdir()) == []


def test_a_new_package_takes_the_name_of_its_distribution_and_replaces_nothing(
    metta, empty_working_directory
):
    assert metta("plugins", "new", "two_words", "--kind", "policy").code == 0
    package = empty_working_directory / "metta-policy-two-words"
    assert "class TwoWordsPolicy(" in (package / "metta_policy_two_words/policy.py").read_text()
    (package / "README.md").write_text("mine")
    outcome = metta("plugins", "new", "two_words", "--kind", "policy")
    assert outcome.code == 2
    assert outcome.err.startswith("error: metta-policy-two-words exists\n")
    assert (package / "README.md").read_text() == "mine"
