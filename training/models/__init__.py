"""Detector networks: M2TR, baselines, clip models, checkpoints."""
