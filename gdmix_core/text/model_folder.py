"""What a trained text network leaves beside its marker."""

from __future__ import annotations

from gdmix_core import storage
from gdmix_core.plan import Step
from gdmix_core.run import Run
from gdmix_core.text.inputs_of_data import INPUTS, WEIGHTS, model_file
from gdmix_core.text.network import TextNetwork
from gdmix_core.text.saved_model import write_saved_model

SAVED_MODEL = "saved_model"


def write_model(run: Run, step: Step, network: TextNetwork) -> None:
    """Its weights and inputs, from which the next pass starts, and saved_model/, which is exported."""
    network.save_weights(model_file(run, step, WEIGHTS))
    with storage.open_for_write(model_file(run, step, INPUTS)) as file:
        file.write(network.inputs.to_json().encode())
    write_saved_model(network, model_file(run, step, SAVED_MODEL), run.config.task)
