"""A network's training starts at the network of the pass before, in the first pass at that of initial_model."""

from __future__ import annotations

from gdmix_core import storage
from gdmix_core.models.initial.written import initial_network
from gdmix_core.models.network_files import INPUTS, WEIGHTS
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.training_context import TrainingContext


def start_inputs(context: TrainingContext) -> NetworkInputs | None:
    """Read the inputs of the network before, whether its weights are taken or not; None without one."""
    path = _file_before(context, INPUTS)
    return None if path is None else NetworkInputs.read(path)


def start_weights(context: TrainingContext) -> str | None:
    """Return the file with trained weights, of the same names and shapes; None where training starts from new ones."""
    if not context.settings.text.warm_start:
        return None
    return _file_before(context, WEIGHTS)


def _file_before(context: TrainingContext, name: str) -> str | None:
    if context.previous is not None:
        return context.previous.model_file(name)
    folder = initial_network(context.run, context.name)
    return None if folder is None else storage.join(folder, name)
