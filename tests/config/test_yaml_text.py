"""YAML 1.2's core schema, and what is refused before anything is made of a text."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.config.yaml_text import parse_yaml
from gdmix_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1.0e3", 1000.0), ("1E5", 1e5), ("2.5e1", 25.0), (".5", 0.5), ("+1", 1), ("-7", -7),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"),
        ("true", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("~", None), ("", None), ("null", None), ("2026-11-01", "2026-11-01"), ("'1'", "1"), ("-.inf", -float("inf")),
        ("1.", 1.0), ("1e", "1e"), ("e3", "e3"), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parse_yaml(f"a: {text}", "f").content["a"]
    assert found == value
    assert type(found) is type(value)


# The core schema's own tag resolution, YAML 1.2.2 section 10.3.2.
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\\.[0-9]+|[0-9]+(\\.[0-9]*)?)([eE][-+]?[0-9]+)?".replace("\\\\", "\\"))


@given(st.text("0123456789+-.eE_:", min_size=1, max_size=8).filter(lambda text: text not in ("-", "---", "...")))
def test_any_number_like_text_is_read_by_the_schema(text):
    if text.startswith("- ") or ": " in text or text.endswith(":") or text == "-":
        return
    found = parse_yaml(f"[{text}]", "f").content[0] if ":" not in text else parse_yaml(f"a: {text}", "f").content["a"]
    if _INT.fullmatch(text):
        assert found == int(text)
    elif _FLOAT.fullmatch(text):
        assert found == float(text)
    else:
        assert found == text


_NAMES = st.text("abcdefgh", min_size=1, max_size=4)
_PLAIN = st.recursive(
    st.integers() | st.booleans() | _NAMES,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(_NAMES, part, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(_NAMES, _PLAIN, min_size=1, max_size=4))
def test_what_is_written_is_read_and_every_line_is_known(content):
    text = yaml.safe_dump(content, sort_keys=False)
    document = parse_yaml(text, "f")
    assert document.content == content
    lines = text.splitlines()
    for key in content:
        assert lines[document.lines[key,] - 1].startswith(f"{key}:")


@given(st.dictionaries(_NAMES, st.integers(), min_size=1, max_size=6), st.data())
def test_a_key_that_stands_twice_is_refused_with_both_lines(content, data):
    keys = list(content)
    again = data.draw(st.sampled_from(keys))
    text = "".join(f"{key}: {value}\n" for key, value in content.items()) + f"{again}: 1\n"
    with pytest.raises(ConfigError, match=rf"f:{len(keys) + 1}: {again}: .* line {keys.index(again) + 1} already"):
        parse_yaml(text, "f")
    nested = "outer:\n" + "".join(f"  {line}\n" for line in text.splitlines())
    with pytest.raises(
        ConfigError, match=rf"f:{len(keys) + 2}: outer.{again}: .* line {keys.index(again) + 2} already"
    ):
        parse_yaml(nested, "f")


def test_a_merged_key_may_be_given_another_value():
    text = "base: &base {a: 1, b: 2}\nmade: {<<: *base, b: 3}\n"
    assert parse_yaml(text, "f").content["made"] == {"a": 1, "b": 3}


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_bomb(), "more than 100,000 values"),
        ("a: &a [*a]", "a part of"),
        ("[" * 100_000, "more than 100 levels"),
        ("a: " + "{a: " * 200, "more than 100 levels"),
        ("- " * 5000 + "x", "more than 100 levels"),
        ("a: " + "x" * (1 << 20), "characters"),
        ("a: {{ ds }}", "f:1: .*quotes"),
        ("? [a]\n: 1", "a key is a list"),
        ("a: !!python/name:os.system", "f:1: "),
        ("metrics: !!set {auc, logloss}", "f:1: the tag !!set makes what no setting can be"),
        ("a: 1\nb: !!binary aGk=", "f:2: the tag !!binary"),
        ("a: 1\n---\nb: 2", "f:2: .*another document"),
        ("a:\n\tb: 1", "f:2: "),
        ("a: 'x", "f:1: "),
        (b"a: 1\nb: caf\xe9\n", "f:2: not UTF-8"),
    ],
)
def test_what_is_no_configuration_is_one_message_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_yaml(text, "f")
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse_yaml(b"\xef\xbb\xbfname: x", "f").content == {"name": "x"}


def test_json_is_yaml():
    content = {"a": [1, 2.5, None, True, "x"], "b": {"c": "no"}}
    assert parse_yaml(json.dumps(content), "f").content == content


def test_words_that_yaml_1_1_takes_for_booleans_have_a_hint():
    hints = parse_yaml("name: no\non: {x: 'off'}", "f").hints
    assert sorted(hints) == [("name",), ("on",)]


def test_of_two_merges_one_would_be_lost():
    with pytest.raises(ConfigError, match=r"p\.yaml:2: a\.<<: this key is in line 2 already"):
        parse_yaml("b: &b {c: 1}\na: {<<: *b, <<: {d: 2}}\n", "p.yaml")
