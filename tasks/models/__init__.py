"""Weights of networks: the files that a stage needs, where they are searched for, and how they are fetched."""
