"""The steps of a flow run: preflight, sources, splits, shards, task runners, progress."""
