"""The import of TensorFlow where it is needed, with no more of it than is needed, and without its chatter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from gdmix_core.errors import StepError
from gdmix_core.extras import require


def import_tensorflow(*, keras: bool, gpus: bool, extra: str, what: str, threads: int | None = None) -> Any:
    """Import the library, which says nothing at its start. Takes seconds.

    keras: without it the import takes half the time; gpus: whether it may use them
    extra: which of the project's extras brings it; what: what needs it, for the messages
    threads: those of an operation; None: as many as there are cores
    Raises ConfigError when it is not installed, StepError when it cannot be imported.
    """
    require("tensorflow", extra, what)
    # What goes wrong is raised; TensorFlow's log besides is of use to its developers.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if keras:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    else:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with _quiet_start(), contextlib.nullcontext() if keras else _import_fails("keras"):
        try:
            import tensorflow
        except ImportError as error:
            raise StepError(f"{what} needs TensorFlow, which cannot be imported: {error}") from None
    if threads is not None:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        # Two steps never run at once: beside the step itself there are only sums and sends.
        tensorflow.config.threading.set_inter_op_parallelism_threads(2)
    return tensorflow


@contextlib.contextmanager
def _import_fails(package: str) -> Iterator[None]:
    """Let the import of a package fail: TensorFlow imports Keras at its end, and does without when that fails."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Show what is written to standard error in the block only if it fails.

    TensorFlow's libraries write some lines before their log level counts.
    """
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(standard_error, held.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
