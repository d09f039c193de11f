"""Configurations of the flows, their loading from YAML and options, and the presets."""
