"""Export of a store to other formats."""
