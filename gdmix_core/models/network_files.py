"""The files of a text network: in a pass's model folder, in the export, and in what a run starts from."""

from __future__ import annotations

WEIGHTS = "weights.npz"
INPUTS = "network_inputs.json"  # its vocabularies and sizes, without which the weights mean nothing
SAVED_MODEL = "saved_model"
CLASSES = "classes.csv"


def features_file(bag: str) -> str:
    """Return the list that the feature indices of a bag refer to, in the export and in what a run starts from."""
    return f"features/{bag}.csv"
