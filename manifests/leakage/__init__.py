"""Leakage between splits: the audit, confounds, near-duplicate videos."""
