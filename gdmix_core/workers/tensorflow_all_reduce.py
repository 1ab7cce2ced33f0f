"""All-reduce by TensorFlow's collectives, between the processes that TF_CONFIG names.

tf.distribute.MultiWorkerMirroredStrategy rather than the raw collective operations: it is the public way to the
same ring, and it brings the coordination service, whose heartbeats end a sum that waits for a frozen worker.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.errors import StepError
from gdmix_core.workers.all_reduce import WorkerLostError
from gdmix_core.workers.tensorflow_import import import_tensorflow


def place_in_cluster(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return (rank, workers) by TF_CONFIG. Raises StepError when it is absent or has no place for this process.

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

    def __init__(self, tensorflow: Any = None) -> None:
        """Returns when all workers are there. Raises StepError without TensorFlow, WorkerLostError when one dies.

        tensorflow: the imported library, where it does more than to add up; else it is imported here, without GPUs.
        """
        self.rank, self.workers = place_in_cluster()
        self._tf = tf = tensorflow or import_tensorflow(
            keras=False,
            gpus=False,
            extra="distributed",
            what="fixed_effect.workers above 1",
            threads=1,  # The cores are for the loss and its gradient; TensorFlow only adds up and sends.
        )
        implementations = tf.distribute.experimental.CommunicationImplementation
        with_gpus = bool(tf.config.get_visible_devices("GPU"))
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=implementations.AUTO if with_gpus else implementations.RING
        )
        with self.losing_workers():
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        self._sum = tf.function(self.sum_in_graph, input_signature=[tf.TensorSpec([None], tf.float64)])

    def sum_in_graph(self, values: Any) -> Any:
        """Sum a dense tensor over the workers, within a tf.function; every worker must trace and call the same
        ones in the same order."""
        tf = self._tf

        def in_replica(values: Any) -> Any:
            replica = tf.distribute.get_replica_context()
            # identity: a collective does not take a function's argument itself.
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self._strategy.run(in_replica, (values,))

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        with self.losing_workers():
            total: NDArray[np.float64] = self._sum(self._tf.constant(values, self._tf.float64)).numpy()
        return total

    def barrier(self) -> None:
        """Return when every worker has called it. Raises WorkerLostError."""
        self.sum(np.zeros(1))

    def leave(self) -> None:
        """Wait for the others, as the last thing, so that none finds its peers gone while it reads their last words.

        After a barrier nothing can be lost: it is not an error if the others are gone already.
        """
        with contextlib.suppress(WorkerLostError):
            self.barrier()

    @contextlib.contextmanager
    def losing_workers(self) -> Iterator[None]:
        """Raise what TensorFlow says of a lost peer within the block as WorkerLostError."""
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
    """Extract what TensorFlow says of a lost peer, without the graph around it."""
    _, _, reason = message.rpartition("aborted by: ")
    return " ".join(reason.partition("The error could be")[0].split())
