"""What a command does to its process before it computes."""

import logging
import os

import pytest

from metta_cli.cli.process import prepare_process
from metta_cli.errors import ConfigError


def test_our_messages_go_to_stderr_with_their_level(capsys):
    prepare_process()
    logger = logging.getLogger("metta_cli.runs.train")
    logger.debug("too much")
    logger.info("going on")
    logger.warning("skipped %s", "one")
    output = capsys.readouterr()
    assert output.err == "going on\nwarning: skipped one\n"
    assert output.out == ""


def test_the_level_can_be_chosen(capsys, monkeypatch):
    monkeypatch.setenv("METTA_LOG_LEVEL", "warning")
    prepare_process()
    logging.getLogger("metta_plugins.loaders.file").info("going on")
    assert capsys.readouterr().err == ""


def test_a_level_that_does_not_exist_is_a_mistake(monkeypatch):
    monkeypatch.setenv("METTA_LOG_LEVEL", "loud")
    with pytest.raises(ConfigError, match="METTA_LOG_LEVEL"):
        prepare_process()


def test_preparing_twice_does_not_double_the_messages(capsys):
    prepare_process()
    prepare_process()
    logging.getLogger("metta_cli.x").info("once")
    assert capsys.readouterr().err == "once\n"


def test_threads_wait_asleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("KMP_BLOCKTIME", "7")
    prepare_process()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    assert os.environ["KMP_BLOCKTIME"] == "7"


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"LOG_LEVEL": "debug"}, "debug: detail\nnews\n"),
        ({"LOGLEVEL": "DEBUG"}, "debug: detail\nnews\n"),
        ({"LOG_LEVEL": "warn", "LOGLEVEL": "debug"}, ""),
        ({"METTA_LOG_LEVEL": "info", "LOG_LEVEL": "debug"}, "news\n"),
        ({"LOG_LEVEL": ""}, "news\n"),
    ],
)
def test_the_level_may_be_named_as_other_programs_do(capsys, monkeypatch, variables, shown):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    prepare_process()
    logger = logging.getLogger("metta_cli.artifacts.loaders")
    logger.debug("detail")
    logger.info("news")
    assert capsys.readouterr().err == shown


def test_a_level_that_only_another_program_knows_is_left_aside(capsys, monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "trace")
    prepare_process()
    logging.getLogger("metta_cli.x").info("news")
    assert capsys.readouterr().err == (
        "warning: LOG_LEVEL=trace names no level of metta's: DEBUG, INFO, WARNING, WARN, ERROR\nnews\n"
    )
