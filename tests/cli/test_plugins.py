"""`metta plugins list`."""

import json
import sys


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
