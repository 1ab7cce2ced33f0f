"""Coefficients in memory and on disk, and models over one feature list as models over another."""
