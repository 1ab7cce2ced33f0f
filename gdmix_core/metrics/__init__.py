"""Metrics by their formulas, and the grammar of their names. No run, no files."""
