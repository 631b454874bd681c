"""What the environment says to the program as a whole."""

import pytest

from metta_cli.config.settings import read_settings
from metta_cli.errors import ConfigError


def test_without_variables_there_are_defaults():
    settings = read_settings()
    assert (settings.data_dir, settings.log_level, settings.load_plugins) == ("./train_dir", "INFO", None)


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("METTA_DATA_DIR", "/data")
    monkeypatch.setenv("METTA_LOG_LEVEL", "debug")
    monkeypatch.setenv("METTA_LOAD_PLUGINS", "")
    monkeypatch.setenv("METTA_HOURLY_COST", "10.5")
    settings = read_settings()
    assert (settings.data_dir, settings.log_level, settings.load_plugins) == ("/data", "DEBUG", "")
    assert settings.hourly_cost == 10.5


def test_a_variable_with_a_wrong_value_is_named(monkeypatch):
    monkeypatch.setenv("METTA_LOG_LEVEL", "loud")
    with pytest.raises(ConfigError, match="METTA_LOG_LEVEL = 'LOUD': should be 'DEBUG', "):
        read_settings()
