"""All-reduce by TensorFlow's collectives, between the processes that TF_CONFIG names.

tf.distribute.MultiWorkerMirroredStrategy rather than the raw collective operations: it is the public way to the
same ring, and it brings the coordination service, whose heartbeats end a sum that waits for a frozen worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.errors import StepError
from gdmix_core.solvers.all_reduce import WorkerLostError


def place_in_cluster(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(rank, workers) by TF_CONFIG. Raises StepError when it is absent or has no place for this process.

    {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": rank}}, as explained at
    https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
    """
    text = environment.get("TF_CONFIG", "")
    try:
        content = json.loads(text)
        workers, task = content["cluster"]["worker"], content["task"]
        rank = int(task["index"])
        if len(content["cluster"]) == 1 and task["type"] == "worker" and 0 <= rank < len(workers):
            return rank, len(workers)
    except (ValueError, KeyError, TypeError):
        pass
    example = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    raise StepError(
        f"TF_CONFIG must name the workers, and which of them this process is, as in {example}; it is {text!r}"
    )


class TensorFlowAllReduce:
    """The group TF_CONFIG describes. One a process, before anything else uses TensorFlow there."""

    def __init__(self) -> None:
        """Returns when all workers are there. Raises StepError without TensorFlow, WorkerLostError when one dies."""
        self.rank, self.workers = place_in_cluster()
        self._tf = tf = _import_tensorflow()
        # The cores are for the loss and its gradient; TensorFlow only adds up and sends.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(2)
        ring = tf.distribute.experimental.CommunicationImplementation.RING
        options = tf.distribute.experimental.CommunicationOptions(implementation=ring)
        with self._losing_workers():
            strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)

        def in_replica(values: Any) -> Any:
            replica = tf.distribute.get_replica_context()
            # identity: a collective does not take a function's argument itself.
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        signature = [tf.TensorSpec([None], tf.float64)]
        self._sum = tf.function(lambda values: strategy.run(in_replica, (values,)), input_signature=signature)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        with self._losing_workers():
            total: NDArray[np.float64] = self._sum(self._tf.constant(values, self._tf.float64)).numpy()
        return total

    def barrier(self) -> None:
        """Returns when every worker has called it. Raises WorkerLostError."""
        self.sum(np.zeros(1))

    def leave(self) -> None:
        """Call last: waits for the others, so that none finds its peers gone while it reads their last words.

        After a barrier nothing can be lost any more; so that the others are gone already is no error.
        """
        with contextlib.suppress(WorkerLostError):
            self.barrier()

    @contextlib.contextmanager
    def _losing_workers(self) -> Iterator[None]:
        errors = self._tf.errors
        try:
            yield
        except (
            errors.UnavailableError,  # its connection broke, or its heartbeats stopped
            errors.DeadlineExceededError,  # the first worker, who listens to heartbeats, does not answer
            errors.AbortedError,
            errors.CancelledError,
            errors.FailedPreconditionError,  # it has been started again
            errors.InternalError,
        ) as error:
            raise WorkerLostError(_reason(str(error))) from None


def _reason(message: str) -> str:
    """What TensorFlow says of a lost peer, without the graph around it."""
    _, _, reason = message.rpartition("aborted by: ")
    return " ".join(reason.partition("The error could be")[0].split())


def _import_tensorflow() -> Any:
    """TensorFlow without GPUs, without Keras (half of its import) and without what it prints at the start."""
    # What goes wrong is raised; TensorFlow's log besides is of use to its developers.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with _quiet_start(), _import_fails("keras"):
        try:
            import tensorflow
        except ImportError as error:
            raise StepError(
                f"several workers need TensorFlow, which cannot be imported ({error}); install it, or set "
                "fixed_effect.workers: 1"
            ) from None
    return tensorflow


@contextlib.contextmanager
def _import_fails(package: str) -> Iterator[None]:
    """TensorFlow imports Keras at its end, and goes on without when that fails."""
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
    """What is written to standard error in the block is shown only if it fails.

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
