"""Feature lists: the names behind the feature indices of a bag, one CSV line `name,term` per index."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from gdmix_core.errors import DataError
from gdmix_core.storage import open_for_read, open_for_write

Feature = tuple[str, str]
"""(name, term); the term may be empty."""

INTERCEPT: Feature = ("(INTERCEPT)", "")
"""How model files name the intercept. It is not a feature, so no feature list has it."""


@dataclass(frozen=True)
class FeatureList:
    """The features of one bag; names[i] is the (name, term) of feature index i.

    Raises DataError when the intercept is among them.
    """

    names: list[Feature]

    def __post_init__(self) -> None:
        if INTERCEPT in self._indices:
            raise DataError(
                f"feature {self._indices[INTERCEPT]} of a feature list is the intercept {INTERCEPT[0]!r}; "
                "the model adds it, so leave it out"
            )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str, term: str = "") -> int | None:
        """Return the index of a feature, None if it is not listed; the last one if it is listed twice."""
        return self._indices.get((name, term))

    def duplicates(self) -> dict[Feature, list[int]]:
        """Return features that are listed more than once, each with all its indices."""
        if len(self._indices) == len(self.names):
            return {}
        repeated = {feature for feature, count in Counter(self.names).items() if count > 1}
        found: dict[Feature, list[int]] = {}
        for index, feature in enumerate(self.names):
            if feature in repeated:
                found.setdefault(feature, []).append(index)
        return found

    @cached_property
    def _indices(self) -> dict[Feature, int]:
        return {feature: index for index, feature in enumerate(self.names)}


def read_feature_list(path: str) -> FeatureList:
    """Read a feature list (UTF-8 CSV; names and terms may be quoted, commas in quotes are theirs).

    Raises DataError with file and line for anything but exactly two fields, and for an intercept.
    """
    names: list[Feature] = []
    # Strict, because a stray quote would otherwise swallow the lines after it and shift every index.
    lines = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        for fields in lines:
            if len(fields) != 2:
                raise DataError(
                    f"{path}, line {lines.line_num}: expected name,term (the term may be empty, the comma is "
                    f"needed), found {','.join(fields)!r}"
                )
            feature = (fields[0], fields[1])
            if feature == INTERCEPT:
                raise DataError(
                    f"{path}, line {lines.line_num}: the intercept {INTERCEPT[0]!r} is no feature; the model "
                    "adds it, so remove the line and renumber the features after it"
                )
            names.append(feature)
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: not valid CSV ({error})") from None
    return FeatureList(names)


def _read_text(path: str) -> str:
    with open_for_read(path) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")  # a byte order mark is not part of the first name
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason} at byte {error.start})") from None


def write_feature_list(path: str, features: FeatureList) -> None:
    """Write a list that read_feature_list, and any CSV reader, gives back as it was."""
    with open_for_write(path) as file:
        for name, term in features.names:
            file.write(f"{_quoted(name)},{_quoted(term)}\n".encode())


def _quoted(field: str) -> str:
    # csv.writer of Python 3.11 leaves a bare carriage return unquoted, where its own reader ends the line.
    if any(special in field for special in '",\r\n'):
        return '"' + field.replace('"', '""') + '"'
    return field
