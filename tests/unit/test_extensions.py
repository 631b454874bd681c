"""Entry points of real distributions: `dist-info` directories on `sys.path`."""

import sys
from pathlib import Path

import pytest

from metta_cli import extensions
from metta_cli.errors import PluginError, UnknownNameError
from metta_cli.extensions import LOADERS, POLICIES


class Site:
    """A directory on `sys.path` into which distributions are installed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(
        self,
        distribution: str,
        version: str = "1.0",
        *,
        group: str = POLICIES,
        modules: dict[str, str] | None = None,
        **plugins: str,
    ) -> None:
        """Install a distribution that registers `plugins` (name=target) and consists of `modules`."""
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {target}" for name, target in plugins.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        for module, source in (modules or {}).items():
            (self.path / f"{module}.py").write_text(source)


@pytest.fixture
def site(tmp_path, monkeypatch):
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("METTA_LOAD_PLUGINS", raising=False)
    yield Site(tmp_path)
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def find(group: str, name: str) -> extensions.PluginInfo:
    return next(info for info in extensions.list_plugins(group) if info.name == name)


def test_the_built_in_plugins_come_through_entry_points():
    assert "fast" in extensions.plugin_names(POLICIES)
    assert "file" in extensions.plugin_names(LOADERS)
    assert find(POLICIES, "fast").distribution == "metta-cli"


def test_listing_tells_distribution_and_version_and_imports_nothing(site):
    site.install(
        "metta-policy-deep", "2.3", deep="deep_policy:Deep", modules={"deep_policy": "class Deep: pass"}
    )
    info = find(POLICIES, "deep")
    assert (info.distribution, info.version, info.target) == ("metta-policy-deep", "2.3", "deep_policy:Deep")
    assert "deep_policy" not in sys.modules


def test_a_group_lists_only_its_own_plugins_ordered_by_name(site):
    site.install("b-dist", zeta="m:a", alpha="m:a")
    site.install("c-dist", group=LOADERS, gopher="m:a")
    names = extensions.plugin_names(POLICIES)
    assert names == sorted(names)
    assert {"alpha", "zeta"} <= set(names)
    assert "gopher" not in names
    assert "gopher" in extensions.plugin_names(LOADERS)


def test_loading_returns_the_object_and_imports_only_that_plugin(site):
    site.install("one", one="one_policy:One", modules={"one_policy": "class One: pass"})
    site.install("two", two="two_policy:Two", modules={"two_policy": "class Two: pass"})
    assert extensions.load_plugin(POLICIES, "one") is sys.modules["one_policy"].One
    assert "two_policy" not in sys.modules


def test_an_unknown_name_gets_the_closest_known_one(site):
    site.install("deep", deepest="deep_policy:Deep")
    with pytest.raises(UnknownNameError, match=r"unknown policy 'deepst'.*'deepest'"):
        extensions.load_plugin(POLICIES, "deepst")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("raise SystemExit('I leave')", "SystemExit: I leave"),
        ("def broken(:", "SyntaxError"),
        ("Other = 1", "AttributeError: module 'bad_policy' has no attribute 'Bad'"),
    ],
)
def test_a_broken_plugin_has_a_reason_and_blocks_no_other(site, source, reason):
    site.install("bad-dist", "0.4", bad="bad_policy:Bad", modules={"bad_policy": source})
    site.install("good-dist", good="good_policy:Good", modules={"good_policy": "class Good: pass"})
    assert reason in extensions.check_plugin(find(POLICIES, "bad"))
    with pytest.raises(PluginError) as caught:
        extensions.load_plugin(POLICIES, "bad")
    assert reason in caught.value.message
    assert "policy 'bad' of bad-dist 0.4" in caught.value.message
    assert "\n" not in caught.value.message
    assert "pip uninstall bad-dist" in caught.value.cure
    assert caught.value.__cause__ is not None
    assert extensions.check_plugin(find(POLICIES, "good")) is None
    assert extensions.load_plugin(POLICIES, "good").__name__ == "Good"


@pytest.mark.parametrize("target", ["only_a_module", "not an import path", "module:"])
def test_a_target_that_is_not_module_and_attribute_is_broken(site, target):
    site.install("bad-dist", bad=target)
    assert (
        extensions.check_plugin(find(POLICIES, "bad"))
        == f"ValueError: '{target}' is not of the form module:attribute"
    )


def test_a_missing_module_is_broken(site):
    site.install("bad-dist", bad="nowhere_to_be_found:Bad")
    assert "nowhere_to_be_found" in extensions.check_plugin(find(POLICIES, "bad"))


def test_one_name_in_two_distributions_is_an_error_that_names_both(site):
    source = {"twin_policy": "raise RuntimeError('imported')"}
    site.install("first-dist", "1.0", twin="twin_policy:A", modules=source)
    site.install("second-dist", "2.0", twin="twin_policy:B")
    assert extensions.plugin_names(POLICIES).count("twin") == 1
    with pytest.raises(PluginError) as caught:
        extensions.load_plugin(POLICIES, "twin")
    for claim in ("first-dist 1.0", "second-dist 2.0"):
        assert claim in caught.value.message
    assert "twin_policy" not in sys.modules
    assert "first-dist 1.0" in extensions.check_plugin(find(POLICIES, "twin"))


def test_one_name_in_two_groups_is_no_conflict(site):
    site.install("first-dist", both="both_plugin:A", modules={"both_plugin": "A = 1"})
    site.install("second-dist", group=LOADERS, both="both_plugin:A")
    assert extensions.load_plugin(POLICIES, "both") == 1
    assert extensions.load_plugin(LOADERS, "both") == 1


def test_a_distribution_found_twice_counts_once(site, tmp_path_factory, monkeypatch):
    other = Site(tmp_path_factory.mktemp("second"))
    site.install("Same.Dist", "2.0", same="same_policy:New", modules={"same_policy": "New, Old = 2, 1"})
    other.install("same-dist", "1.0", same="same_policy:Old")
    monkeypatch.syspath_prepend(str(other.path))
    monkeypatch.syspath_prepend(str(site.path))
    assert extensions.load_plugin(POLICIES, "same") == 2


def test_what_a_plugin_prints_while_imported_goes_to_stderr(site, capfd):
    source = (
        "import os, sys\nprint('from python')\nos.write(1, b'from below')\nsys.stdout.write('direct')\nA = 1"
    )
    site.install("loud-dist", loud="loud_policy:A", modules={"loud_policy": source})
    print("before")
    assert extensions.load_plugin(POLICIES, "loud") == 1
    print("after")
    output = capfd.readouterr()
    assert output.out == "before\nafter\n"
    for text in ("from python", "from below", "direct"):
        assert text in output.err


def test_stdout_comes_back_after_a_broken_plugin(site, capfd):
    site.install(
        "bad-dist", bad="bad_policy:A", modules={"bad_policy": "print('noise'); raise SystemExit(3)"}
    )
    assert extensions.check_plugin(find(POLICIES, "bad")) == "SystemExit: 3"
    print("data")
    assert capfd.readouterr().out == "data\n"


def test_the_selection_keeps_the_named_and_the_built_in_distributions(site, monkeypatch):
    site.install("Keep_This", kept="m:a")
    site.install("drop-this", dropped="m:a")
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "keep-this, ")
    names = extensions.plugin_names(POLICIES)
    assert {"kept", "fast"} <= set(names)
    assert "dropped" not in names
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "")
    assert not {"kept", "dropped"} & set(extensions.plugin_names(POLICIES))
    assert "fast" in extensions.plugin_names(POLICIES)


def test_the_selection_settles_a_conflict(site, monkeypatch):
    site.install("first-dist", twin="twin_policy:A", modules={"twin_policy": "A, B = 1, 2"})
    site.install("second-dist", twin="twin_policy:B")
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "second-dist")
    assert extensions.load_plugin(POLICIES, "twin") == 2


def test_a_hidden_plugin_is_said_to_be_hidden(site, monkeypatch):
    site.install("drop-this", dropped="m:a")
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "")
    with pytest.raises(UnknownNameError, match="METTA_LOAD_PLUGINS hides it: add 'drop-this'"):
        extensions.load_plugin(POLICIES, "dropped")


def test_the_selection_of_a_distribution_without_plugins_is_refused(site, monkeypatch):
    site.install("metta-policy-deep", deep="m:a")
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "metta-policy-dep")
    with pytest.raises(
        UnknownNameError, match=r"METTA_LOAD_PLUGINS: 'metta-policy-dep'.*'metta-policy-deep'"
    ):
        extensions.list_plugins(POLICIES)


def test_a_distribution_without_metadata_is_still_listed(site):
    info = site.path / "anonymous-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(f"[{POLICIES}]\nanonymous = m:a\n")
    assert find(POLICIES, "anonymous").distribution == "(no name)"
