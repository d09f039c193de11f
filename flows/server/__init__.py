"""The Prefect server: the embedded server, deployments, automations, events, short names of deployments."""
