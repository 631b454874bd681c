"""YAML files, read so that a bad one cannot hurt and every value knows its line.

The files follow YAML 1.2: `1e-3` is a number, `off` and `no` are text, `10_000` may have underscores.
A file is refused if it is larger than `MAX_BYTES`, gives a key twice, uses tags such as
`!!python/object`, nests deeper than `MAX_DEPTH`, or unfolds its aliases to more than `MAX_NODES` values
(a few hundred bytes can otherwise fill the memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from metta_cli.errors import ConfigError, NotFoundError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 20_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]{0,99}")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Node:
    """A value of a YAML file.

    Args:
        value: a scalar, a dict of nodes, or a list of nodes.
        line: where it starts, from 1.
        text: how an unquoted scalar was written; None for everything else.
        size: how many nodes it consists of, aliases unfolded.
    """

    value: Any
    line: int
    text: str | None = None
    size: int = 1

    def plain(self) -> Any:
        """Return the value as Python data."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read_yaml(path: Path) -> Node:
    """Return the mapping that a YAML file holds.

    Raises:
        NotFoundError: if there is no such file.
        ConfigError: if it cannot be read, is not YAML, not a mapping, or refused for its form.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes", "split it, or move data out of it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text", "save the file as UTF-8") from error
    node = parse_yaml(text, str(path))
    if node.value is None:
        return Node({}, 1)
    if not isinstance(node.value, dict):
        raise ConfigError(f"{path}:{node.line}: not a mapping", "write one `key: value` per line")
    return node


def parse_yaml(text: str, source: str) -> Node:
    """Return the one document in `text`; an empty text is null.

    Args:
        text: YAML.
        source: what to call it in error messages.

    Raises:
        ConfigError: see `read_yaml`; the message starts with `source:line`.
    """
    try:
        return _Builder(text, source).document()
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise ConfigError(f"{where}: not valid YAML: {problem}") from error


def parse_scalar(text: str) -> Any:
    """Return what an unquoted scalar means in YAML 1.2: null, bool, int, float or text."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def dump_yaml(data: Any) -> str:
    """Return plain data as YAML that `parse_yaml` reads back to the same."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    """Quotes the text that YAML 1.2 would take for something else, such as `1e3`."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = None if isinstance(parse_scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


class _Builder:
    """Builds nodes from the parser's events, counting as it goes."""

    def __init__(self, text: str, source: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._source = source
        self._anchors: dict[str, Node] = {}
        self._num_nodes = 0

    def document(self) -> Node:
        """Return the only document."""
        document = Node(None, 1)
        num_documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                num_documents += 1
                if num_documents > 1:
                    raise self._error(event, "a second document starts here", "keep one per file")
                document = self._node(next(self._events), 0)
        return document

    def _node(self, event: yaml.Event, depth: int) -> Node:
        """Return the node that starts with `event`."""
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(event, f"the alias *{event.anchor} stands for nothing complete")
            node = self._anchors[event.anchor]
            self._count(event, node.size)
            return node
        if getattr(event, "tag", None) not in (None, "!"):
            raise self._error(event, f"the tag {event.tag} is not read", "write plain values")  # type: ignore[attr-defined]
        self._count(event, 1)
        before = self._num_nodes
        value, text = self._content(event, depth)
        node = Node(value, _line(event), text, self._num_nodes - before + 1)
        if event.anchor is not None:  # type: ignore[attr-defined]
            self._anchors[event.anchor] = node  # type: ignore[attr-defined]
        return node

    def _content(self, event: yaml.Event, depth: int) -> tuple[Any, str | None]:
        """Return the value of a node, and the text of an unquoted scalar."""
        if isinstance(event, yaml.ScalarEvent):
            is_plain = event.implicit[0]
            return (parse_scalar(event.value), event.value) if is_plain else (event.value, None)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(item, depth + 1))
            return items, None
        entries: dict[str, Node] = {}
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            name = self._key(key, entries)
            entries[name] = self._node(next(self._events), depth + 1)
        return entries, None

    def _key(self, event: yaml.Event, entries: dict[str, Node]) -> str:
        """Return a key of a mapping that is not in `entries` yet."""
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a key must be plain text")
        if event.value == "<<":
            raise self._error(event, "merge keys (<<) are not read", "list the other file in `defaults:`")
        if event.value in entries:
            first = entries[event.value].line
            raise self._error(event, f"the key '{event.value}' is given twice", f"first on line {first}")
        return str(event.value)

    def _count(self, event: yaml.Event, num_nodes: int) -> None:
        self._num_nodes += num_nodes
        if self._num_nodes > MAX_NODES:
            raise self._error(event, f"more than {MAX_NODES} values, aliases unfolded")

    def _error(self, event: yaml.Event, message: str, cure: str | None = None) -> ConfigError:
        return ConfigError(f"{self._source}:{_line(event)}: {message}", cure)


def _line(event: yaml.Event) -> int:
    """Return the line of an event, from 1."""
    return event.start_mark.line + 1 if event.start_mark else 1
