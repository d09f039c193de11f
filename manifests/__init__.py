"""Manifests of datasets: one row per video with label, leakage group and split, and a reason for each rejected file."""
