"""NeMig impressions made up by hand, every feature worked out; and the published ones as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.cli.command import main
from gdmix_core.errors import DataError
from gdmix_core.samples.nemig import is_held_out, read_nemig, write_nemig
from tests.samples.reading import features_of, read_names, read_rows

NEWS = [
    ("n1", "Refugees at the BORDER: 'no way', he says", "Ärger."),
    ("n2", '"Will refugees come\\""?"', ""),
    ("n3", "Sport", "x" * 330),
]


def write_folder(folder: Path, impressions: int = 5, users: int = 1) -> Path:
    """Every impression of every user shows n1 (clicked) and n2; the first of all also n3."""
    folder.mkdir(exist_ok=True)
    news = "".join(f"{name}\t{title}\t{abstract}\n" for name, title, abstract in NEWS)
    rows = ""
    for number in range(impressions * users):
        shown = [("n1", 1), ("n2", 0)] + ([("n3", 0)] if number == 0 else [])
        rows += "".join(f"{number}\tU{number // impressions}\t{name}\t{clicked}\n" for name, clicked in shown)
    (folder / "news.tsv").write_text("news\ttitle\tabstract\n" + news)
    (folder / "rows.tsv").write_text("impression\tuser\tnews\tclicked\n" + rows)
    return folder


@pytest.fixture(params=["tfrecord", "parquet"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    output = tmp_path / "input"
    write_nemig(write_folder(tmp_path / "nemig"), str(output), format=request.param)
    return output


def test_columns_and_their_description(written: Path) -> None:
    metadata = json.loads((written / "metadata" / "tensor_metadata.json").read_text())
    described = {tensor["name"]: tensor["dtype"] for tensor in metadata["features"] + metadata["labels"]}
    assert described == {
        "uid": "long", "weight": "float", "user_id": "string", "news_id": "string", "impression": "long",
        "title": "string", "abstract": "string", "wide": "float", "per_user": "float", "response": "int",
    }  # fmt: skip
    rows = {row["uid"]: row for split in ("training", "validation") for row in read_rows(written, split)}
    assert sorted(rows) == list(range(11))
    assert (rows[0]["user_id"], rows[0]["news_id"], rows[0]["impression"], rows[0]["response"]) == ("U0", "n1", 0, 1)
    assert (rows[0]["title"], rows[0]["abstract"]) == (NEWS[0][1], "Ärger.")
    # Quoted in the file, its quotes escaped twice.
    assert (rows[1]["title"], rows[1]["abstract"]) == ('Will refugees come"?', "")


def test_features(written: Path) -> None:
    rows: list[dict[str, Any]] = read_rows(written, "training")
    names = read_names(written, "wide")
    by_news = {row["news_id"]: row for row in rows}
    one, two = features_of(by_news["n1"], "wide", names), features_of(by_news["n2"], "wide", names)
    # Four of five impressions train: an item of all of them is shown in three others.
    shown = pytest.approx(np.log(4) / 3, abs=1e-6)
    assert one.pop("shown_elsewhere,") == two.pop("shown_elsewhere,") == shown
    assert one.pop("impression_size,") in (pytest.approx(2 / 6, abs=1e-6), 0.5)
    two.pop("impression_size,")
    flags = ("colon", "quote", "capitals", "person_speaks")
    assert one == pytest.approx(
        {"title_length,": 41 / 80, "title_words,": 7 / 12, "abstract_length,": 6 / 165}
        | dict.fromkeys((f"title_{flag}," for flag in flags), 1.0),
        abs=1e-6,
    )
    assert two == pytest.approx(
        {"title_length,": 20 / 80, "title_words,": 2 / 12, "title_question,": 1.0, "title_quote,": 1.0,
         "no_abstract,": 1.0},
        abs=1e-6,
    )  # fmt: skip
    themes = features_of(by_news["n1"], "per_user", read_names(written, "per_user"))
    assert themes.pop("shown_elsewhere,") == shown
    assert themes == {"theme,border": 1.0, "theme,refugees": 1.0}


def test_an_item_that_only_validation_shows_has_no_count_and_no_theme(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "nemig")
    found = read_nemig(folder)
    number = int(found.impression[is_held_out(found.impression, found.user)][0])
    (folder / "news.tsv").open("a").write("n9\tUnseen\tagain\n")
    (folder / "rows.tsv").open("a").write(f"{number}\tU0\tn9\t1\n")
    write_nemig(folder, str(tmp_path / "input"), format="parquet")
    row = next(row for row in read_rows(tmp_path / "input", "validation") if row["news_id"] == "n9")
    assert features_of(row, "per_user", read_names(tmp_path / "input", "per_user")) == {}
    assert "shown_elsewhere," not in features_of(row, "wide", read_names(tmp_path / "input", "wide"))


def test_clicks_of_other_rows_change_no_feature(tmp_path: Path) -> None:
    """Nothing but the response may know about clicks, in either split."""
    folder = write_folder(tmp_path / "nemig")
    write_nemig(folder, str(tmp_path / "before"), format="parquet")
    lines = (folder / "rows.tsv").read_text().splitlines()
    lines = [lines[0], *(line[:-1] + str(1 - int(line[-1])) for line in lines[1:])]
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n")
    write_nemig(folder, str(tmp_path / "after"), format="parquet")
    for split in ("training", "validation"):
        for before, after in zip(
            read_rows(tmp_path / "before", split), read_rows(tmp_path / "after", split), strict=True
        ):
            assert before.pop("response") == 1 - after.pop("response")
            assert before == after


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_every_fifth_impression_of_a_user_is_held_out_whole(sizes: list[int], random: Any) -> None:
    """Whatever the order of the rows; sizes: impressions of each user."""
    pairs = [(f"u{user}", 1000 * user + i) for user, size in enumerate([*sizes, 5]) for i in range(size)]
    rows = [pair for pair in pairs for _ in range(2)]
    held = split_of(rows)
    random.shuffle(rows)
    assert split_of(rows) == held
    for user, size in enumerate([*sizes, 5]):
        assert sum(held[f"u{user}", 1000 * user + i] for i in range(size)) == size // 5


def split_of(rows: list[tuple[str, int]]) -> dict[tuple[str, int], bool]:
    found = is_held_out(np.array([impression for _, impression in rows]), pa.array([user for user, _ in rows]))
    held: dict[tuple[str, int], bool] = {}
    for row, one in zip(rows, found.tolist(), strict=True):
        assert held.setdefault(row, one) == one
    return held


def test_a_share_of_the_negatives_stands_for_all(tmp_path: Path) -> None:
    write_nemig(write_folder(tmp_path / "nemig", users=40), str(tmp_path / "all"), format="parquet")
    write_nemig(write_folder(tmp_path / "nemig", users=40), str(tmp_path / "some"), negatives=0.25, format="parquet")
    everything = {row["uid"]: row for row in read_rows(tmp_path / "all", "training")}
    assert {row["weight"] for row in everything.values()} == {1.0}
    some = {row["uid"]: row for row in read_rows(tmp_path / "some", "training")}
    assert {uid for uid, row in some.items() if row["response"]} == {
        u for u, row in everything.items() if row["response"]
    }
    negatives = [row for row in some.values() if not row["response"]]
    assert {row["weight"] for row in negatives} == {4.0}
    expected = sum(not row["response"] for row in everything.values())
    # Standard deviation of the sum of weights: 4 sqrt(n / 4 x 3 / 4).
    assert abs(sum(row["weight"] for row in negatives) - expected) < 4 * np.sqrt(3 * expected)
    for uid, row in some.items():
        assert row | {"weight": 1.0} == everything[uid]
    assert read_rows(tmp_path / "some", "validation") == read_rows(tmp_path / "all", "validation")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rows.tsv", "impression\tuser\tnews\tclicked\n1\tu\tn7\t0\n", "n7 is not in news.tsv"),
        ("rows.tsv", "impression\tuser\tnews\tclicked\n1\tu\tn1\t2\n", "clicked must be 0 or 1"),
        ("rows.tsv", "impression\tuser\tnews\tclicked\n1\tu\tn1\t0\n1\tv\tn1\t0\n", "shown to two users"),
        ("rows.tsv", "impression\tuser\tnews\tclicked\n", "holds no rows"),
        ("rows.tsv", "impression\tuser\tclicked\n1\tu\t0\n", "not readable as tab-separated impression, user, news"),
        ("rows.tsv", "impression\tuser\tnews\tclicked\nx\tu\tn1\t0\n", "not readable"),
        ("rows.tsv", "impression\tuser\tnews\tclicked\n\tu\tn1\t0\n", "column impression is empty in 1 rows"),
        ("news.tsv", "news\ttitle\tabstract\nn1\ta\tb\nn1\tc\td\n", "stands there twice"),
        ("news.tsv", None, "no such file; give the folder"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    folder = write_folder(tmp_path / "nemig")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(DataError, match=f"{file}.*{message}"):
        write_nemig(folder, str(tmp_path / "input"))


def test_the_published_impressions(shared_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "input"
    result = CliRunner().invoke(
        main,
        ["sample", "nemig", "--data", str(shared_data / "nemig-en"), "--output", str(output), "--format", "parquet"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "85218 rows in 15000 impressions of 4137 news items to 3000 users, 16.6% clicked" in result.output
    training, validation = read_rows(output, "training"), read_rows(output, "validation")
    assert len(training) + len(validation) == 85_218
    held = {row["impression"] for row in validation}
    assert len(held) == 3000
    assert not held & {row["impression"] for row in training}
    assert {row["user_id"] for row in validation} == {row["user_id"] for row in training}
    assert sum(bool(row["title"]) for row in validation) == len(validation)
    assert len(read_names(output, "per_user")) == 31
