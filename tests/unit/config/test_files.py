"""YAML: what values mean, which line they are on, and what is refused."""

import subprocess
import sys

import pytest

from metta_cli.config.files import MAX_BYTES, MAX_DEPTH, MAX_NODES, dump_yaml, parse_yaml, read_yaml
from metta_cli.errors import ConfigError, NotFoundError


def plain(text):
    return parse_yaml(text, "f").plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-.5", -0.5),
        ("1_000.5", 1000.5),
        (".inf", float("inf")),
        ("10_000_000", 10_000_000),
        ("-3", -3),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
    ],
)
def test_unquoted_values_follow_yaml_1_2(text, value):
    read = plain(f"key: {text}")["key"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["off", "on", "yes", "no", "1:30", "2024-01-01", "1e", "_1", "0x1F", "v1", ".", "+"]
)
def test_what_yaml_1_1_took_for_something_else_is_text(text):
    assert plain(f"key: {text}") == {"key": text}


@pytest.mark.parametrize("text", ["'1'", '"true"', "'~'", '""'])
def test_quoted_values_are_text(text):
    assert plain(f"key: {text}")["key"] == text[1:-1]


def test_lists_mappings_and_aliases_are_data():
    assert plain("a: &x [1, {b: 2}]\nc: *x") == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


def test_every_value_knows_its_line():
    node = parse_yaml("# comment\na: 1\nb:\n  c: 2\n  d: [\n    3]", "f")
    assert node.value["a"].line == 2
    assert node.value["b"].value["c"].line == 4
    assert node.value["b"].value["d"].value[0].line == 6


def test_unquoted_values_know_how_they_were_written():
    node = parse_yaml("a: 007\nb: '007'", "f")
    assert (node.value["a"].text, node.value["b"].text) == ("007", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: the key 'a' is given twice"),
        ("a:\n  b: 1\n  'b': 2", "f:3: the key 'b' is given twice"),
        ("a: {b: 1, b: 2}", "f:1: the key 'b' is given twice"),
        ("a: 1\nb: !!python/object/apply:os.system [x]", "f:2: the tag"),
        ("a: !custom 1", "f:1: the tag"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "f:3: merge keys"),
        ("a: &x [*x]", r"f:1: the alias \*x"),
        ("a: *x", r"f:1: the alias \*x"),
        ("a: 1\n---\nb: 2", "f:2: a second document"),
        ("? [a]\n: 1", "f:1: a key must be plain text"),
        ("a: 1\nb: ]", "f:2: not valid YAML"),
        ("a: b: c", "f:1: not valid YAML"),
        ("a:\n\tb: 1", "f:2: not valid YAML"),
        ("a: \x00", "f: not valid YAML"),
        ("a: \ud800", "f: not valid YAML"),
    ],
)
def test_refused_text_is_told_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message):
        plain(text)


def alias_bomb(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_aliases_that_unfold_to_too_many_values_are_refused():
    assert len(alias_bomb(9)) < 1000
    with pytest.raises(ConfigError, match=f"more than {MAX_NODES} values"):
        plain(alias_bomb(9))


def test_aliases_are_counted_unfolded():
    levels = plain(alias_bomb(3))
    assert parse_yaml(alias_bomb(3), "f").size == 1 + 11 + 111 + 1111
    assert len(levels["a2"]) == 10


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(opening):
    with pytest.raises(ConfigError, match=f"deeper than {MAX_DEPTH}"):
        plain(opening * 10_000)


def test_nesting_below_the_limit_is_read():
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def test_a_file_above_the_size_limit_is_refused_unparsed(directory):
    (directory / "large.yaml").write_text("a: " + "x" * MAX_BYTES)
    with pytest.raises(ConfigError, match=r"large.yaml: larger than 1000000 bytes"):
        read_yaml(directory / "large.yaml")


def test_a_file_must_hold_a_mapping(directory, write):
    write("- 1")
    with pytest.raises(ConfigError, match=r"mine.yaml:1: not a mapping"):
        read_yaml(directory / "mine.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeffa: 1"])
def test_empty_files_and_byte_order_marks_are_fine(directory, write, text):
    write(text)
    assert read_yaml(directory / "mine.yaml").plain() in ({}, {"a": 1})


def test_a_file_that_is_not_utf8_is_told_with_its_line(directory):
    (directory / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin.yaml:2: not UTF-8"):
        read_yaml(directory / "latin.yaml")


def test_a_missing_file_and_a_directory_are_told_apart(directory):
    with pytest.raises(NotFoundError, match=r"there is no file .*nope.yaml"):
        read_yaml(directory / "nope.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(directory)


@pytest.mark.parametrize(
    "data",
    [
        {"a": [1, 2.5, None, True, {"b": []}], "c": {}},
        {"small": 1e-12, "large": 1e300, "whole": 3.0, "int": 10**15},
        ["1e3", "1_000", "007", "off", "yes", "null", "~", "", ".5", "1.", "true", "0x1F", "1:30", ".nan"],
        [
            "=",
            "<<",
            "a: b",
            "# x",
            " x ",
            "x\ny",
            "'",
            '"',
            "*a",
            "&a",
            "!a",
            "%",
            "@",
            "`",
            "-",
            "?",
            "{",
            "é☃",
        ],
        {"1": "2", "true": "x", "null": "y", "a/b": "z"},
    ],
)
def test_what_is_written_is_read_back_the_same(data):
    assert repr(plain(dump_yaml(data))) == repr(data)


def test_the_slow_parser_of_pure_python_reads_the_same(directory, write):
    write("a: 1e-3\nb: &x [off, 007]\nc: {d: *x}\n")
    program = (
        "import yaml, pathlib\n"
        "del yaml.CSafeLoader\n"
        "from metta_cli.config import files\n"
        "assert files._LOADER is yaml.SafeLoader\n"
        "print(files.read_yaml(pathlib.Path('mine.yaml')).plain())"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=directory, capture_output=True, text=True)
    assert result.stdout.strip() == "{'a': 0.001, 'b': ['off', 7], 'c': {'d': ['off', 7]}}", result.stderr
