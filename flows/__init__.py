"""Prefect flows, their configuration, the command line and the report: when and where the work runs."""

import training  # noqa: F401 - sets how threads wait, which has to precede the first import of torch
