"""The configuration of a command: all layers merged, validated once, every value with its origin.

The layers, each over the one before:

    code defaults < shipped files < user file < --config files < METTA_* variables < KEY=VALUE words < options

Words and options are one source: of them, what selects a file (`--env NAME`) comes first, then single values.

The shipped files are `common.yaml` and, unless a layer sets `hardware`, the sizes that suit the machine
(`hardware/cpu.yaml` or `hardware/gpu.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metta_cli.config import places
from metta_cli.config.composition import Composition, Setting
from metta_cli.config.files import dump_yaml
from metta_cli.config.keys import Key, dotted
from metta_cli.config.schema import MettaConfig
from metta_cli.config.validation import validate
from metta_cli.config.words import environment_settings, option_settings, parse_word

DEFAULT_ORIGIN = "default"
ALREADY_MERGED = {"user", "hardware"}
"""Keys that only name files; a resolved configuration holds what the files said."""


@dataclass(frozen=True)
class ResolvedConfig:
    """A configuration and where its values came from.

    Args:
        config: the validated configuration.
        origins: dotted key of every value -> `FILE:LINE`, environment variable, word, option or "default".
        chosen: the keys that a user set, by a file or otherwise, and not metta.
    """

    config: MettaConfig
    origins: Mapping[str, str]
    chosen: frozenset[str]

    def is_chosen(self, key: str) -> bool:
        """Whether a user set a key, or one below it."""
        return any(name == key or name.startswith(f"{key}.") for name in self.chosen)

    def to_yaml(self) -> str:
        """Return the configuration as YAML that `load_config` reads back to the same values."""
        data = self.config.model_dump(mode="json", exclude=ALREADY_MERGED)
        return dump_yaml(data)

    def explain(self) -> list[tuple[str, Any, str]]:
        """Return key, value and origin of every value, in the order of the schema."""
        values = _leaves(self.config.model_dump(mode="json"), ())
        return [(dotted(key), value, self.origins[dotted(key)]) for key, value in values.items()]


def load_config(
    *,
    files: Sequence[str] = (),
    words: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    cuda_available: bool = False,
) -> ResolvedConfig:
    """Merge all layers and validate the result.

    Args:
        files: paths, or names such as `demo`, in the order they are merged.
        words: `KEY=VALUE`.
        options: key -> value of the options that were given; None is an option that was not.
        environ: environment variables; those that start with `METTA_` are read.
        cuda_available: whether `hardware` and `device: auto` mean a GPU.

    Returns:
        The configuration, with the origin of every value.

    Raises:
        ConfigError: what is wrong, where, and what would be right.
        UnknownNameError: if an environment, suite, file, ... of that name does not exist.
        NotFoundError: if a path of `files` does not exist.
    """
    single = [
        environment_settings(environ or {}),
        [*(setting for word in words for setting in parse_word(word)), *option_settings(options or {})],
    ]  # words and options are one source, so that `--env NAME env.args.KEY=VALUE` changes what NAME selects
    composition = Composition()
    composition.merge_file(places.common_file(), ())
    shipped = dict(composition.settings)
    users = [setting for layer in single for setting in layer if setting.key == ("user",)]
    composition.merge(users[-1:])
    for file in files:
        path = places.find_file(file)
        composition.merge_file(path, places.package(path))
    for layer in single:
        composition.merge([setting for setting in layer if setting.key != ("user",)])
    chosen = {key for key, setting in composition.settings.items() if setting is not shipped.get(key)}
    if ("hardware",) not in chosen:
        _put_hardware_below(composition, chosen, cuda_available)
    config = validate(MettaConfig, composition.settings)
    return ResolvedConfig(config, _origins(config, composition.settings), frozenset(map(dotted, chosen)))


def _put_hardware_below(composition: Composition, chosen: set[Key], cuda_available: bool) -> None:
    """Add the sizes that suit the machine, under everything that a user chose."""
    device = composition.settings.get(("device",))
    on_gpu = cuda_available if device is None or device.value == "auto" else device.value != "cpu"
    hardware = Composition()
    hardware.merge_file(places.shipped_configs() / "hardware" / ("gpu.yaml" if on_gpu else "cpu.yaml"), ())
    name = Setting(("hardware",), "gpu" if on_gpu else "cpu", "chosen for this machine")
    for key, setting in {**hardware.settings, name.key: name}.items():
        if key not in chosen:
            composition.settings[key] = setting


def _origins(config: MettaConfig, settings: Mapping[Key, Setting]) -> dict[str, str]:
    """Return the origin of every value of the configuration."""
    origins = {}
    for key in _leaves(config.model_dump(mode="json"), ()):
        setting = settings.get(key)
        if setting is None and key[-3:-2] == ("simulations",):  # handed down by the suite
            setting = settings.get((*key[:-3], key[-1]))
        origins[dotted(key)] = DEFAULT_ORIGIN if setting is None else setting.origin
    return origins


def _leaves(data: Any, key: Key) -> dict[Key, Any]:
    """Return every value of nested data by its key."""
    if not isinstance(data, dict) or not data:
        return {key: data}
    leaves: dict[Key, Any] = {}
    for part, inner in data.items():
        leaves |= _leaves(inner, (*key, part))
    return leaves
