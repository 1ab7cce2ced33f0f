"""The pipeline's YAML as typed models, read and checked; the grammar of search spaces. Imports no NumPy."""
