"""Validate's own: from input files to checked, joined records, and the report about them."""
