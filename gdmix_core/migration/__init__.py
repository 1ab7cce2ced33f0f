"""Workflows of GDMix and commands of Photon ML as pipelines of ours."""
