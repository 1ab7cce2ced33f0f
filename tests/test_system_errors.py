"""What the system, a driver, a codec or an encoding refuses is one sentence, from every storage call on."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from gdmix_core import storage
from gdmix_core.cli import command
from gdmix_core.errors import ConfigError, DataError, GdmixError, StepError, StorageError
from gdmix_core.pipeline.run import Run
from gdmix_core.report.page import write_report
from gdmix_core.system_errors import as_user_error
from tests.run_directory import Rows, make_run, walk

GDMIX = str(Path(sys.executable).with_name("gdmix"))


class RefusedError(Exception):
    """As one of a driver's own."""


RefusedError.__module__ = "botocore.exceptions"


def _unicode_error() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "invalid")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space", "/d/x"), StorageError, ["/d/x", "no space is left", "make room"]),
        (PermissionError(errno.EACCES, "denied", "/d/x"), StorageError, ["/d/x", "permission denied", "access"]),
        (OSError(errno.EROFS, "x", "/d/x"), StorageError, ["read-only"]),
        (OSError(errno.ENAMETOOLONG, "x", "/d/x"), StorageError, ["too long", "shorter"]),
        (NotADirectoryError(errno.ENOTDIR, "x", "/d/x"), StorageError, ["is a file and not a folder"]),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), StorageError, ["endpoint"]),
        (OSError("Could not connect to the endpoint URL"), StorageError, ["network", "endpoint"]),
        (RefusedError("Unable to locate credentials"), StorageError, ["credentials"]),
        (
            RefusedError("Could not connect to https://k:s@h/b?X-Amz-Signature=abc"),
            StorageError,
            ["https://…@h/b", "endpoint"],
        ),
        (ImportError("Install s3fs to access S3"), ConfigError, ["driver", "pip install"]),
        (ValueError("Protocol not known: s4"), ConfigError, ["s4://"]),
        (_unicode_error(), DataError, ["not UTF-8", "0xe9", "position 3"]),
        (zlib.error("Error -3"), DataError, ["damaged or cut off"]),
        (gzip.BadGzipFile("Not a gzipped file"), DataError, ["damaged or cut off"]),
        (EOFError("Compressed file ended"), DataError, ["damaged or cut off"]),
        (pa.ArrowInvalid("Parquet magic bytes not found"), DataError, ["magic bytes", "again"]),
        (MemoryError(), StepError, ["out of memory"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused_is_one_sentence_with_what_to_do(error, kind, words):
    found = as_user_error(error)
    assert type(found) is kind
    assert all(word in str(found) for word in words)
    assert "\n" not in str(found)
    assert "abc" not in str(found)


@pytest.mark.parametrize(
    "error", [TypeError("x"), KeyError("x"), AssertionError("x"), ValueError("x"), RuntimeError("x")]
)
def test_faults_of_the_program_keep_their_traceback(error):
    assert as_user_error(error) is None


CONFIG: dict[str, Any] = {
    "coordinates": {
        "global": {"fixed_effect": {}, "bag": "f"},
        "per_user": {"random_effect": {"entity": "user", "shards": 2}, "bag": "f"},
    },
}


def _rows(seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    label = (draw.random(60) < 0.5).astype(float)
    return Rows(label, ids={"user": draw.integers(0, 6, 60)}, bags={"f": draw.normal(size=(60, 3)).astype(np.float32)})


def _finish(run: Run) -> None:
    walk(run)
    write_report(run)


def _message(call: Callable[[], None]) -> str:
    """Of the error that it ends in, if it is one of ours."""
    try:
        call()
    except GdmixError as error:
        return str(error)
    return ""


class Primitives:
    """The system's calls below storage; the n-th of them is refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, below: Path) -> None:
        self.calls, self.refuse, self._below = 0, -1, str(below)
        self._patch(monkeypatch, os, "stat")
        self._patch(monkeypatch, os, "scandir")
        self._patch(monkeypatch, os, "replace")
        self._patch(monkeypatch, storage.tempfile, "mkstemp", where="dir")
        self._patch(monkeypatch, storage.shutil, "rmtree")
        opened = open

        def reading(path: Any, *arguments: Any, **options: Any) -> Any:
            self._called(path)
            return opened(path, *arguments, **options)

        monkeypatch.setattr(storage, "open", reading, raising=False)

    def _patch(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, where: str = "") -> None:
        real: Callable[..., Any] = getattr(module, name)

        def called(*arguments: Any, **options: Any) -> Any:
            self._called(options[where] if where else arguments[0])
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, called)

    def _called(self, path: Any) -> None:
        if sys._getframe(2).f_globals.get("__name__") != "gdmix_core.storage" or self._below not in str(path):
            return
        self.calls += 1
        if self.calls - 1 == self.refuse:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_every_storage_call_of_a_run_may_be_refused(tmp_path, monkeypatch, caplog):
    """Whichever call it is: one sentence with the path; and once there is room again the result is the same."""
    caplog.set_level(logging.CRITICAL)
    whole = make_run(tmp_path / "whole", CONFIG, _rows(0), _rows(1))
    _finish(whole)
    expected = {p.name: p.read_bytes() for p in Path(whole.path("export")).rglob("*.avro")}
    root = tmp_path / "refused"
    make_run(root, CONFIG, _rows(0), _rows(1))
    with monkeypatch.context() as patched:
        primitives = Primitives(patched, root)
        refused = number = 0
        while True:
            primitives.calls, primitives.refuse = 0, number
            said = _message(lambda: _finish(Run.open(str(root / "run"))))
            if said:
                refused += 1
                assert "no space is left on the disk" in said or "out of date" in said
                assert str(root) in said
            if primitives.calls <= number:
                break
            number += 1
    assert refused > 60
    _finish(Run.open(str(root / "run")))
    assert {p.name: p.read_bytes() for p in (root / "run/export").rglob("*.avro")} == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "{here}/l.yaml"], ["l.yaml:1", "not UTF-8"]),
        (["config", "import", "{here}/l.yaml"], ["l.yaml", "not UTF-8"]),
        (["show", "{here}"], ["not a run directory"]),
        (["report", "{here}/absent"], ["not a run directory"]),
        (["show", "{here}/damaged"], ["config.yaml", "damaged"]),
        (["score", "--model", "{here}/l.yaml", "--input", "{here}", "--output", "{here}/s.parquet"], ["l.yaml"]),
        (["score", "--model", "s4://b/m", "--input", "{here}", "--output", "{here}/s.parquet"], ["s4://"]),
        (["show", "{here}/" + "x" * 300], ["too long"]),
    ],
)
def test_the_command_ends_in_one_message(tmp_path, arguments, words):
    (tmp_path / "l.yaml").write_bytes(b"name: caf\xe9\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.yaml").write_bytes(b"config: [")
    result = CliRunner().invoke(command.main, [part.format(here=tmp_path) for part in arguments])
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert all(word in result.output for word in words), result.output


def test_a_closed_pipe_is_no_traceback():
    done = subprocess.run(f"{GDMIX} config schema | head -1", shell=True, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("{", "")


def test_where_another_user_may_not_write(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("becoming another user takes root")
    code = "from gdmix_core import storage\nstorage.write_json('/proc/1/x', {})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "StorageError: /proc/1/x: " in done.stderr
