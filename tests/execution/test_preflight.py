"""What a run needs is looked for before it starts, and all that is missing is said at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import synthetic_input as synthetic
import yaml

from gdmix_core.config.pipeline import Config
from gdmix_core.errors import DataError
from gdmix_core.execution import preflight
from gdmix_core.pipeline.loading import parse_config

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film"]
BERT = {
    "model_type": "bert", "vocab_size": 5, "max_position_embeddings": 32, "num_hidden_layers": 1,
    "num_attention_heads": 1, "hidden_size": 4, "intermediate_size": 4,
}  # fmt: skip
PER_USER = {"random_effect": {"entity": "user_id"}, "bag": "per_user"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = synthetic.make_rows(5)
    return synthetic.write_directory(tmp_path_factory.mktemp("needed") / "input", {**rows, "title": ["a film"] * 5})


def content(root: Path, source: Path, effects: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "needs",
        "input": str(source),
        "output": str(root / "run"),
        "columns": {"label": "response"},
        "coordinates": {**{name: {"fixed_effect": effect} for name, effect in effects.items()}, "per_user": PER_USER},
        **changes,
    }


def network(root: Path, **settings: Any) -> dict[str, Any]:
    """With a vocabulary and a BERT folder under root."""
    encoder = {"type": "transformer", "path": str(root / "bert")}
    return {
        "model": "text", "document": "title", "encoder": encoder,
        "vocabulary": {"tokenizer": "wordpiece"}, **settings,
    }  # fmt: skip


def write_bert(folder: Path, **config: Any) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT | config))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (folder / "model.safetensors").touch()


def everything(root: Path, source: Path) -> dict[str, Any]:
    """A pipeline that needs something of every kind, all of it under root."""
    effects = {
        "words": {"model": "text", "document": "title", "vocabulary": {"file": str(root / "words.txt")}},
        "pieces": network(root),
        "own": {"model": "python", "function": "trainer_of_this_test:train"},
        "elsewhere": {"model": "external", "scores": [str(root / "scores.csv"), str(root / "more")]},
    }
    initial = {"path": str(root / "yesterday"), "coordinates": {"per_user": str(root / "users")}}
    return content(root, source, effects, initial_model=initial)


def make_everything(root: Path) -> None:
    (root / "words.txt").write_text("film\n")
    write_bert(root / "bert")
    (root / "trainer_of_this_test.py").write_text("def train(given):\n    return {}\n")
    (root / "scores.csv").write_text("uid,score\n1,2\n")
    (root / "more").mkdir()
    (root / "more" / "part-0.csv").write_text("uid,score\n3,4\n")
    for folder in ("users", "yesterday/per_user/models"):
        (root / folder).mkdir(parents=True)
        (root / folder / "part-0.avro").touch()


def faults(config: Config, **how: Any) -> list[str]:
    with pytest.raises(DataError) as error:
        preflight.check(config, **how)
    return str(error.value).splitlines()


def test_all_that_is_missing_is_said_at_once(tmp_path: Path, source: Path):
    config = parse_config({**everything(tmp_path, source), "metrics": ["auc@usr_id"]})
    first, *lines = faults(config)
    assert first == "the run cannot start, for 8 reasons:"
    keys = [
        "input",
        "coordinates.words.fixed_effect.vocabulary.file",
        "coordinates.pieces.fixed_effect.encoder.path",
        "coordinates.own.fixed_effect.function",
        "coordinates.elsewhere.fixed_effect.scores",
        "coordinates.elsewhere.fixed_effect.scores",
        "initial_model",
        "initial_model.coordinates.per_user",
    ]
    assert [line.split(": ")[0].strip() for line in lines] == keys
    assert "column usr_id (the group of metric auc@usr_id) is not described; did you mean user_id?" in lines[0]
    missing = [source, "words.txt", "bert", "", "scores.csv", "more", "yesterday", "users"]
    for line, path in zip(lines, missing, strict=True):
        assert not path or str(tmp_path / path) in line
    assert "there is no module trainer_of_this_test; install it" in lines[3]
    # Where Spark's driver is elsewhere it looks for its own files.
    left = [line for line in faults(config, data_here=False) if ".scores" in line or "input" in line]
    assert not left


def test_nothing_is_missing(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch):
    make_everything(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    preflight.check(parse_config(everything(tmp_path, source)))
    sys.modules.pop("trainer_of_this_test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("(folder / 'vocab.txt').unlink()", r"encoder.path: .*bert/vocab.txt: no such file; put it there, or name one"),
        ("(folder / 'config.json').unlink()", r"encoder.path: .*bert: no config.json; an encoder's folder holds"),
        ("(folder / 'model.safetensors').unlink()", r"encoder.path: .*bert: no model.safetensors;"),
        ("(folder / 'vocab.txt').write_text('film')", r"\[PAD\] in its first line"),
        ("(folder / 'config.json').write_text('{\"model_type\": \"roberta\"}')", "'roberta' is not supported"),
        ("(folder / 'tokenizer_config.json').write_text('{\"do_lower_case\": false}')", "set vocabulary.lowercase so"),
    ],
)
def test_a_folder_that_is_no_encoder(tmp_path: Path, source: Path, change: str, message: str):
    write_bert(tmp_path / "bert")
    eval(change, {"folder": tmp_path / "bert"})
    with pytest.raises(DataError, match=message):
        preflight.check(parse_config(content(tmp_path, source, {"pieces": network(tmp_path)})))


def test_a_vocabulary_that_is_a_folder(tmp_path: Path, source: Path):
    effect = {"model": "text", "document": "title", "vocabulary": {"file": str(tmp_path)}}
    with pytest.raises(DataError, match=r"a\.fixed_effect\.vocabulary\.file: .*: a folder, where a file"):
        preflight.check(parse_config(content(tmp_path, source, {"a": effect})))


def test_settings_that_the_encoder_does_not_allow(tmp_path: Path, source: Path):
    write_bert(tmp_path / "bert")
    for settings, message in (
        ({"max_tokens": 33}, "the model has 32 positions; set max_tokens"),
        ({"vocabulary": {}}, "which reads word pieces: set vocabulary.tokenizer: wordpiece"),
    ):
        with pytest.raises(DataError, match=message):
            preflight.check(parse_config(content(tmp_path, source, {"a": network(tmp_path, **settings)})))
    # Of a Keras encoder nothing is known before it is loaded, but where its vocabulary is.
    (tmp_path / "bert" / "model.keras").touch()
    preflight.check(parse_config(content(tmp_path, source, {"a": network(tmp_path, max_tokens=33)})))


def test_parameter_servers_need_a_folder(tmp_path: Path, source: Path):
    effect = {"model": "text", "document": "title", "mode": "parameter_server"}
    given = content(tmp_path, source, {"a": effect}, output="s3://bucket/run")
    with pytest.raises(DataError, match=r"coordinates\.a\.fixed_effect\.mode: .* not the URL s3://bucket/run"):
        preflight.check(parse_config(given))


def test_no_input(tmp_path: Path, source: Path):
    given = content(tmp_path, source / "elsewhere", {})
    with pytest.raises(DataError, match=r"the run cannot start: input: .*/elsewhere: no input there"):
        preflight.check(parse_config(given))


def test_the_command_finds_it_before_spark_and_tensorflow(tmp_path: Path, source: Path):
    """A module that cannot be imported, of a pipeline whose Spark could not start either."""
    (tmp_path / "needs_absent.py").write_text("import really_absent\n")
    effects = {"own": {"model": "python", "function": "needs_absent:train"}, "pieces": network(tmp_path)}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content(tmp_path, source, effects)))
    script = (
        "import sys; from gdmix_core.cli import command\n"
        "try: command.main(sys.argv[1:])\n"
        "finally: print([m for m in ('tensorflow', 'keras', 'pyspark') if m in sys.modules])"
    )
    environment = {**os.environ, "JAVA_HOME": "/absent", "PATH": "", "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    done = subprocess.run(
        [sys.executable, "-c", script, "run", str(tmp_path / "p.yaml")],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No module named 'really_absent'" in done.stderr
    assert f"pieces.fixed_effect.encoder.path: {tmp_path / 'bert'}: no such folder" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "run" / "errors").exists()
