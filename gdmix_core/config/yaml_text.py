"""YAML as its version 1.2 reads it: 1e-3 is a number, 010 is ten, 1:30, no and on are text; no key is there twice.

PyYAML alone reads YAML 1.1, keeps the last of two equal keys, and follows aliases without a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from gdmix_core.errors import ConfigError

KeyPath = tuple[str | int, ...]
Lines = Mapping[KeyPath, int | str]
"""By key path, the line of the file; or what else has set it, such as --set."""

# A pipeline takes some kilobytes. What is larger is another file, and would be read for minutes.
_MAX_BYTES = 1 << 20
_MAX_VALUES = 100_000
_MAX_LEVELS = 100

# The core schema of YAML 1.2.2, section 10.3.2, and the merge key << that everybody uses.
_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}
_TAGS = {f"tag:yaml.org,2002:{name}" for name in (*_SCALARS, "str", "seq", "map")}
# YAML 1.1 takes these for booleans, as other readers of the same file may.
_BOOLEANS_OF_1_1 = re.compile(r"y|n|yes|no|on|off", re.IGNORECASE)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (PyYAML's own name)


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), [None])


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text: str = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(re.sub(r"^([-+]?)\.(?=[in])", r"\1", loader.construct_scalar(node), flags=re.I)),
)


@dataclass(frozen=True)
class Document:
    """A parsed text.

    content: plain data; None of an empty text
    lines: the line, from 1, of every key and list item, by key path
    hints: for keys and values that YAML 1.1 takes for booleans and this reader for text: what to write
    """

    content: Any
    lines: dict[KeyPath, int]
    hints: dict[KeyPath, str]


def parse_yaml(text: str | bytes, where: str) -> Document:
    """Read one document.

    where: names the text in messages, such as a file's path.
    Raises ConfigError, with the line, for bytes that are not UTF-8, for what is not YAML, for a key
    that is there twice, and for a text beyond 1 MiB, 100,000 values (aliases counted as often as they are used) or 100
    levels.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(
                f"{where}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file in this encoding"
            ) from None
    text = text.removeprefix("\ufeff")
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{where}: {len(text):,} characters; a configuration has at most {_MAX_BYTES:,}")
    try:
        _check_levels(text, where)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document(None, {}, {})
            reader = _Nodes(where)
            reader.measure(root)
            walked = list(reader.walk(root, ()))
            content = loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        hint = "; a text that begins with {{ or % needs quotes" if re.search(r":\s*(\{\{|\{%|%)", text) else ""
        raise ConfigError(f"{place}: not valid YAML: {error.problem or error.context}{hint}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from None
    return Document(content, dict(walked), reader.hints)


def _check_levels(text: str, where: str) -> None:
    """Limit the levels, by PyYAML's flat events: it composes by calling itself once a level, in C without a limit."""
    level = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent) and event.start_mark is not None:
            level += 1
            if level > _MAX_LEVELS:
                line = event.start_mark.line + 1
                raise ConfigError(f"{where}:{line}: more than {_MAX_LEVELS} levels of lists and mappings")
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1


class _Nodes:
    """The tree that PyYAML composes, before anything is made of it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._sizes: dict[int, int] = {}
        self.hints: dict[KeyPath, str] = {}

    def measure(self, node: yaml.Node) -> int:
        """Return how many values it stands for, aliases counted as often as they are used."""
        key = id(node)
        if key in self._sizes:
            if self._sizes[key] < 0:
                raise ConfigError(f"{self._at(node)}: an alias stands for what it is a part of")
            return self._sizes[key]
        self._sizes[key] = -1
        if node.tag not in _TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise ConfigError(f"{self._at(node)}: the tag {tag} makes what no setting can be; leave it out")
        children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        size = 1 + (sum(map(self.measure, children)) if isinstance(node, yaml.CollectionNode) else 0)
        if size > _MAX_VALUES:
            raise ConfigError(
                f"{self._at(node)}: more than {_MAX_VALUES:,} values, aliases counted where they are used"
            )
        self._sizes[key] = size
        return size

    def walk(self, node: yaml.Node, at: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        """Yield every key path and its line. Raises ConfigError for a key that is twice in a mapping."""
        if isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield (*at, index), value.start_mark.line + 1
                yield from self.walk(value, (*at, index))
        elif isinstance(node, yaml.MappingNode):
            first: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise ConfigError(
                        f"{self._at(key)}: a key is a list or a mapping; a text that begins with {{{{ needs quotes"
                    )
                if key.tag.endswith(":merge"):
                    if (key.tag, "<<") in first:
                        self._twice((*at, "<<"), first[key.tag, "<<"], line)
                    first[key.tag, "<<"] = line
                    yield from self.walk(value, at)
                    continue
                here = (*at, key.value)
                if (key.tag, key.value) in first:
                    self._twice(here, first[key.tag, key.value], line)
                first[key.tag, key.value] = line
                self._hint(key, here, "as a key")
                self._hint(value, here, "as the value")
                yield here, line
                yield from self.walk(value, here)

    def _twice(self, path: KeyPath, first: int, second: int) -> None:
        dotted = ".".join(map(str, path))
        raise ConfigError(
            f"{self._where}:{second}: {dotted}: this key is in line {first} already, and one of them would be lost; "
            "remove one, or give it another name"
        )

    def _hint(self, node: yaml.Node, path: KeyPath, role: str) -> None:
        if isinstance(node, yaml.ScalarNode) and not node.style and _BOOLEANS_OF_1_1.fullmatch(node.value):
            self.hints[path] = (
                f"{node.value} {role} is read as text; write '{node.value}' with quotes, or true or false"
            )

    def _at(self, node: yaml.Node) -> str:
        return f"{self._where}:{node.start_mark.line + 1}"


def texts_in(content: Any, at: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield (key path, text) of every text in plain data."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from texts_in(value, (*at, key))
    elif isinstance(content, list | tuple):
        for index, value in enumerate(content):
            yield from texts_in(value, (*at, index))
    elif isinstance(content, str):
        yield at, content


def place_of(key: KeyPath, where: str, lines: Lines) -> str:
    """Return the file and, where known, the line of a key or of the nearest one above it; or that --set has set it."""
    line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)
    return where if line is None else f"{where}:{line}" if isinstance(line, int) else f"{where} ({line})"
