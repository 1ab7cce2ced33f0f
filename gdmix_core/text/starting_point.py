"""Where a network's training starts: at the network of the pass before, in the first pass at that of initial_model."""

from __future__ import annotations

from gdmix_core import storage
from gdmix_core.models.initial.written import initial_network
from gdmix_core.models.network_files import INPUTS, WEIGHTS
from gdmix_core.pipeline.plan import CoordinateStep, train_id
from gdmix_core.pipeline.run import Run
from gdmix_core.text.network_inputs import NetworkInputs


def model_file(run: Run, step: CoordinateStep, name: str) -> str:
    """A file or folder beside the step's marker."""
    return run.coordinate(step.pass_number, step.coordinate, "model", name)


def inputs_to_start_from(run: Run, step: CoordinateStep) -> NetworkInputs | None:
    """Of the network before, whether its weights are taken or not; None without one."""
    path = _file_before(run, step, INPUTS)
    return None if path is None else read_inputs(path)


def weights_to_start_from(run: Run, step: CoordinateStep) -> str | None:
    """The file with trained weights, of the same names and shapes; None where training starts from new ones."""
    if not run.config.coordinates[step.coordinate].text.warm_start:
        return None
    return _file_before(run, step, WEIGHTS)


def read_inputs(path: str) -> NetworkInputs:
    """Raises DataError when the file is missing, or is none."""
    with storage.open_for_read(path) as file:
        return NetworkInputs.from_json(file.read().decode())


def write_inputs(path: str, inputs: NetworkInputs) -> None:
    with storage.open_for_write(path) as file:
        file.write(inputs.to_json().encode())


def _file_before(run: Run, step: CoordinateStep, name: str) -> str | None:
    if step.pass_number > 1:
        return model_file(run, run.plan.of_coordinate(train_id(step.pass_number - 1, step.coordinate)), name)
    folder = initial_network(run, step.coordinate)
    return None if folder is None else storage.join(folder, name)
