"""Explanations of a model's decision on a crop."""
