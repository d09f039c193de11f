"""Prefect flows, their configuration, the command line and the report: when and where the work runs."""
