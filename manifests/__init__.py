"""WHICH videos: a dataset on disk → one row per video with label, group and split, and every odd file with a reason."""
