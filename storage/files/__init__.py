"""Files of a store: folder layout, LMDB environments, file systems."""
