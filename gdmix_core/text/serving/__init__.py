"""A trained network as a SavedModel, and the scores it gives."""
