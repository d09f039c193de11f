"""Training runs: Lightning module, data module, losses, callbacks."""
