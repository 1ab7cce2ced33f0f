"""Training without waiting: workers take blocks of rows and update weights that parameter servers hold.

TensorFlow's ParameterServerStrategy and ClusterCoordinator. The chief (the coordinator) packs the rows into files,
hands a worker a file at a time, and between files evaluates and writes checkpoints. A worker shuffles the rows of its
file and takes a step for each of its batches, with weights that others change meanwhile. TensorFlow hands the file of
a worker that dies to another; when a parameter server or the chief dies, all start again from the checkpoint.
The loop is our own, as in synchronous training: the same evaluations, checkpoints and curve.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from gdmix_core import storage
from gdmix_core.errors import StepError
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_rows import ROWS_AT_A_TIME, NetworkRows, RowReader
from gdmix_core.text.training.inputs_of_data import network_inputs
from gdmix_core.text.training.loop import TrainingLoop
from gdmix_core.text.training.monitored_metric import MonitoredMetric
from gdmix_core.text.training.optimizer import Update
from gdmix_core.text.training.packed_rows import RowsInGraph, pack
from gdmix_core.text.training.result import write_model, write_scores
from gdmix_core.text.training.row_order import permutation
from gdmix_core.text.training.row_scores import RowScores
from gdmix_core.text.training.train_step import divided, gradient_sums
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import processes
from gdmix_core.workers.all_reduce import SingleWorker, WorkerLostError
from gdmix_core.workers.process import send_heartbeats

# Files for each worker and epoch at least, so that none has much to wait for at its end.
_FILES_PER_WORKER = 4


def serve(threads: int) -> None:
    """Be a worker or a parameter server, until the process is told to end."""
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads + 1)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol="grpc",
        config=config,
    )
    send_heartbeats()
    server.join()


def train_as_chief(context: TrainingContext) -> dict[str, Any]:
    """Train, score all rows and write the model; return what the step's marker tells. Raises WorkerLostError."""
    settings = context.settings.text
    context.remove_score_parts()
    inputs = network_inputs(context, 0, lambda: None)
    packer = RowReader(context, TextNetwork(settings, inputs))
    with _Files(context, packer, settings.workers) as files, _losing_servers():
        _wait_for_servers()
        # What TensorFlow made before it joins a cluster is gone then: tables of tokens, variables.
        strategy = tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
        local = TextNetwork(settings, inputs)
        reader = RowReader(context, local)
        scorer = RowScores(local)
        loop = _Training(context, strategy, local, reader, scorer, files).run()
        outcome = loop.finish()
    local.weights.assign(loop.best)
    write_scores(context, reader, scorer, rank=0, workers=1)
    write_model(context, local)
    return outcome


class _Files:
    """The training rows packed, a few ten thousand a file; gone when the block ends.

    paths, rows: of each file
    """

    def __init__(self, context: TrainingContext, reader: RowReader, workers: int) -> None:
        folder = storage.local_path(context.checkpoint("").directory)
        if folder is None:
            raise StepError(
                f"{context.id}: mode parameter_server trains from files that TensorFlow reads by itself, so `output` "
                "must be a folder that every worker sees, not a URL; or use mode: synchronous"
            )
        self._folder = os.path.join(folder, "rows")
        self._reader = reader
        total = reader.frame.rows("training")
        self._size = max(1, min(ROWS_AT_A_TIME, -(-total // (workers * _FILES_PER_WORKER))))
        self.paths: list[str] = []
        self.rows: list[int] = []

    def __enter__(self) -> _Files:
        storage.remove(self._folder)
        os.makedirs(self._folder)
        for rows in self._reader.stream("training", 0, self._reader.frame.rows("training"), self._size):
            self.paths.append(os.path.join(self._folder, f"rows-{len(self.paths):05d}.tfrecord"))
            self.rows.append(len(rows))
            pack(rows, self.paths[-1])
        return self

    def __exit__(self, *_: object) -> None:
        storage.remove(self._folder)


class _Training:
    def __init__(
        self,
        context: TrainingContext,
        strategy: Any,
        local: TextNetwork,
        reader: RowReader,
        scorer: RowScores,
        files: _Files,
    ) -> None:
        self._settings = context.settings.text
        self._task, self._files, self._local = context.config.task, files, local
        self._scorer, self._strategy = scorer, strategy
        self._steps = [-(-rows // self._settings.batch) for rows in files.rows]
        total = sum(self._steps) * self._settings.epochs
        with self._strategy.scope():
            self._network = TextNetwork(self._settings, local.inputs)
            self._update = Update(self._settings, self._network, total)
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(self._strategy)
        alone = SingleWorker()
        metric = MonitoredMetric(context, alone)
        self._monitored: NetworkRows = reader.read(metric.split, np.arange(metric.rows))
        self._loop = TrainingLoop(
            context, self._network, self._update, alone, sum(self._steps), metric, self._monitored_scores
        )
        self._function = tf.function(
            self._train_file, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)]
        )

    def run(self) -> TrainingLoop:
        loop, state = self._loop, self._loop.state
        loop.begin()
        loop.start_clock()
        while not state.over:
            for files in self._rounds(state.epoch, state.step):
                results = [
                    self._coordinator.schedule(
                        self._function,
                        args=(tf.constant(self._files.paths[file]), tf.constant([state.epoch, file], tf.int32)),
                    )
                    for file in files
                ]
                self._coordinator.join()
                losses = np.array([result.fetch() for result in results])
                loop.advance(sum(self._steps[file] for file in files), sum(self._files.rows[file] for file in files))
                # Workers that count at once lose a count.
                self._update.set_steps(state.steps)
                loop.evaluate((float(losses[:, 0].sum()), float(losses[:, 1].sum())))
                if state.over:
                    break
        return loop

    def _rounds(self, epoch: int, done: int) -> Iterator[list[int]]:
        """Yield the files between two evaluations of an epoch, whose first `done` steps are taken already."""
        order = permutation(len(self._files.paths), self._settings.seed, epoch)
        rounds = min(self._settings.evaluations, len(order))
        before = 0
        for part in np.array_split(order, rounds):
            if before >= done:
                yield [int(file) for file in part]
            before += sum(self._steps[file] for file in part)

    def _train_file(self, path: Any, seed: Any) -> Any:
        """Take, on a worker, a step for each batch of the file's rows, in a random order. Returns (Σ w · loss, Σ w)."""
        settings, network = self._settings, self._network
        classes = network.inputs.outputs if self._task == "multilabel_classification" else None
        rows = RowsInGraph.read(path, settings, network.inputs.bags, classes)
        order = tf.argsort(tf.random.stateless_uniform([rows.count], seed + settings.seed))
        variables = [variable.value for variable in network.trainable_variables]

        def take(picked: Any, number: Any) -> Any:
            batch, targets = rows.batch(picked), rows.targets(picked)
            # Another one for every batch of every epoch, as far as int32 reaches; beyond it wraps around.
            random = number + 65_536 * (seed[1] + len(self._steps) * seed[0])
            loss, weight, gradients = gradient_sums(
                network, self._update, self._task, variables, batch, targets, random
            )
            self._update.apply([divided(gradient, weight) for gradient in gradients])
            return tf.stack([loss, weight])

        sums = tf.zeros(2)
        for number in tf.range(-(-rows.count // settings.batch)):
            picked = order[number * settings.batch : (number + 1) * settings.batch]
            sums += self._strategy.run(take, (picked, number))
        return sums

    def _monitored_scores(self) -> Any:
        self._local.weights.assign(self._network.weights.arrays())
        return self._scorer.of(self._monitored), np.arange(len(self._monitored))


def _wait_for_servers() -> None:
    """Wait until every worker and parameter server listens: a call before that is repeated after ever longer pauses."""
    cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
    for address in [*cluster["ps"], *cluster["worker"]]:
        host, _, port = address.rpartition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1.0).close()
                break
            except OSError:
                time.sleep(0.1)


@contextlib.contextmanager
def _losing_servers() -> Iterator[None]:
    """Raise the loss of a parameter server as WorkerLostError; of a lost worker TensorFlow waits for the next."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise WorkerLostError(f"a parameter server does not answer ({str(error).splitlines()[0][:200]})") from None


def work(context: TrainingContext, threads: int) -> None:
    """Play the part that TF_CONFIG gives this process: the chief's, a worker's or a parameter server's."""
    job = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("type")
    if job in ("worker", "ps"):
        serve(threads)
    elif job == "chief":
        processes.send({"outcome": train_as_chief(context)})
    else:
        raise StepError(f"{context.id}: mode parameter_server needs TF_CONFIG with jobs chief, worker and ps")
