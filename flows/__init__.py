"""WHEN and WHERE: the Prefect flows, their configuration, the command line and the report."""
