"""Feature lists: CSV in and out, and every way in which a file can be wrong."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gdmix_core.data.feature_list import INTERCEPT, FeatureList, read_feature_list, write_feature_list
from gdmix_core.errors import DataError

features = st.tuples(st.text(max_size=8), st.text(max_size=8)).filter(lambda feature: feature != INTERCEPT)


def write(directory: Path, content: str | bytes) -> str:
    path = directory / "bag"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@settings(deadline=None)
@given(st.lists(features, max_size=20))
@example([("a,b", 'say "x"'), ("", ""), ("line\nbreak", "carriage\rreturn"), (" space ", "\r\n"), ("\ufeff", "é☃")])
def test_lists_come_back_as_they_were(names: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/bag"
        write_feature_list(path, FeatureList(names))
        assert read_feature_list(path).names == names
        # What GDMix does: Python's own reader in its default dialect.
        with open(path, encoding="utf-8", newline="") as file:
            assert [tuple(fields) for fields in csv.reader(file)] == names


def test_plain_names_are_written_plain(tmp_path: Path) -> None:
    path = str(tmp_path / "bag")
    write_feature_list(path, FeatureList([("age", ""), ("genre", "Film-Noir"), ("a,b", "")]))
    assert Path(path).read_text() == 'age,\ngenre,Film-Noir\n"a,b",\n'


def test_remote_lists() -> None:
    write_feature_list("memory://lists/bag", FeatureList([("a", "1")]))
    assert read_feature_list("memory://lists/bag").names == [("a", "1")]


@pytest.mark.parametrize("content", ["a,\nb,t\n", "a,\r\nb,t\r\n", "a,\nb,t", '"a",""\n"b","t"\n'])
def test_line_ends_and_quotes_as_csv_allows_them(tmp_path: Path, content: str) -> None:
    assert read_feature_list(write(tmp_path, content)).names == [("a", ""), ("b", "t")]


def test_an_empty_file_is_an_empty_list(tmp_path: Path) -> None:
    assert len(read_feature_list(write(tmp_path, ""))) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,\nf0\n", r"bag, line 2: expected name,term .* found 'f0'"),
        ("a,\nb,c,d\n", r"bag, line 2: expected name,term .* found 'b,c,d'"),
        ("a,\n\nb,\n", r"bag, line 2: expected name,term .* found ''"),
        ("a,\n(INTERCEPT),\n", r"bag, line 2: the intercept '\(INTERCEPT\)' is no feature"),
        ('a,\n"b,\nc,\n', r"bag, line 3: not valid CSV"),
        ('a,\n"b"x,\n', r"bag, line 2: not valid CSV"),
        (b"a,\nb,\n\xff,\n", r"bag, line 3: not UTF-8 .*byte 6"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_feature_list(write(tmp_path, content))


def test_an_absent_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_feature_list(str(tmp_path / "bag"))


def test_a_list_in_memory_has_no_intercept_either() -> None:
    with pytest.raises(DataError, match="feature 1 of a feature list is the intercept"):
        FeatureList([("a", ""), INTERCEPT])
    assert FeatureList([("(INTERCEPT)", "of a kind")]).index("(INTERCEPT)", "of a kind") == 0


@settings(deadline=None)
@given(st.lists(features, max_size=20))
def test_lookup_finds_what_is_listed(names: list[tuple[str, str]]) -> None:
    listed = FeatureList(names)
    for name, term in names:
        index = listed.index(name, term)
        assert index is not None
        assert names[index] == (name, term)
        assert (name, term) not in names[index + 1 :]
    assert listed.index("no such", "feature, here") is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "t"])), max_size=12))
def test_duplicates_are_reported_with_all_their_lines(names: list[tuple[str, str]]) -> None:
    expected = {
        feature: [index for index, other in enumerate(names) if other == feature]
        for feature in names
        if names.count(feature) > 1
    }
    assert FeatureList(names).duplicates() == expected
