"""Losses and minimisers over arrays; no run, no files."""
