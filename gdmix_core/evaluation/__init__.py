"""Evaluating a run: metrics after each coordinate, whether another pass pays, and which pass is the best."""
