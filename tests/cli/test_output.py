"""Data on stdout and in files."""

import csv
import io
import json
import os
import threading

import pytest
import yaml

from metta_cli.cli.output import emit, table, wants_colour, write
from metta_cli.errors import NotFoundError, StorageError

ROWS = [
    {"name": "a" * 300, "score": 0.5, "note": '[red]not markup[/red], "quoted"\nsecond line'},
    {"name": "ü", "score": float("nan"), "note": None},
]
COLUMNS = ("name", "score", "note")


def printed(capsys, format_name, rows=ROWS, **options):
    emit(rows, columns=COLUMNS, format_name=format_name, **options)
    return capsys.readouterr().out


def test_json_is_json_whatever_it_holds(capsys):
    data = json.loads(printed(capsys, "json"))
    assert data[0] == ROWS[0]
    assert data[1]["score"] is None


def test_yaml_is_yaml_whatever_it_holds(capsys):
    assert yaml.safe_load(printed(capsys, "yaml"))[0] == ROWS[0]


def test_csv_is_csv_whatever_it_holds(capsys):
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "csv"))))
    assert rows[0] == {"name": "a" * 300, "score": "0.5", "note": ROWS[0]["note"]}
    assert rows[1] == {"name": "ü", "score": "", "note": ""}


def test_csv_holds_nested_values_as_json(capsys):
    rows = [{"name": {"b": [1, 2]}, "score": 1, "note": [1]}]
    assert printed(capsys, "csv", rows).splitlines()[1] == '"{""b"": [1, 2]}",1,[1]'


@pytest.mark.parametrize(
    ("format_name", "expected"),
    [("json", "[]\n"), ("yaml", "[]\n"), ("csv", "name,score,note\n"), ("table", "")],
)
def test_nothing_is_an_empty_list(capsys, format_name, expected):
    emit([], columns=COLUMNS, format_name=format_name, empty="no such thing")
    output = capsys.readouterr()
    assert output.out == expected
    assert output.err == ("no such thing\n" if format_name == "table" else "")


def test_a_table_is_aligned_with_numbers_to_the_right_and_one_line_per_record():
    rows = [{"run": "first\nrun", "agent_steps": 5}, {"run": "x", "agent_steps": 1234}]
    assert table(rows, ("run", "agent_steps")).splitlines() == [
        "RUN        AGENT STEPS",
        "first run            5",
        "x                 1234",
    ]


def test_json_shows_the_data_where_that_is_more_than_the_rows(capsys):
    assert json.loads(printed(capsys, "json", data={"rows": 2})) == {"rows": 2}
    assert printed(capsys, "table", text="two rows") == "two rows\n"
    assert printed(capsys, "yaml", yaml="rows: 2 # two") == "rows: 2 # two\n"


@pytest.mark.parametrize(
    ("name", "start"), [("x.json", "["), ("x.yml", "- name"), ("x.CSV", "name,"), ("x.txt", "NAME")]
)
def test_the_suffix_of_the_file_is_the_format_unless_one_is_given(tmp_path, capsys, name, start):
    path = tmp_path / name
    assert printed(capsys, None, destination=str(path)) == ""
    assert path.read_text().startswith(start)
    printed(capsys, "json", destination=str(path))
    assert json.loads(path.read_text())[0] == ROWS[0]


@pytest.mark.parametrize("destination", [None, "-", "/dev/stdout"])
def test_stdout_has_three_names(capsys, destination):
    write("text", destination)
    assert capsys.readouterr().out == "text\n"


def test_a_file_is_replaced_in_one_step_and_a_link_stays_a_link(tmp_path):
    path, link = tmp_path / "data", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    before = path.stat().st_ino
    write("new", str(link))
    assert link.is_symlink()
    assert path.read_text() == "new\n"
    assert path.stat().st_ino != before
    assert sorted(os.listdir(tmp_path)) == ["data", "link", "work"]


def test_a_named_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=write, args=("through", str(pipe)))
    thread.start()
    assert pipe.read_text() == "through\n"
    thread.join()
    assert pipe.is_fifo()


def test_a_file_in_no_directory_is_an_error_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        write("text", str(tmp_path / "missing" / "x.json"))
    assert caught.value.cure == f"mkdir -p {tmp_path / 'missing'}"


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(StorageError, match=r"x\.json cannot be written") as caught:
        write("text", str(tmp_path / "x.json"))
    assert "stdout" in caught.value.cure
    assert sorted(os.listdir(tmp_path)) == ["work", "x.json"]
    with pytest.raises(StorageError):
        write("text", "/proc/x.json")


def test_a_place_in_a_terminal_is_coloured_unless_it_is_refused(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
