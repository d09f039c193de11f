"""The Prefect server: the embedded one, deployments, automations, events."""
