"""Evaluation of a trained model: scores, statistics, report."""
