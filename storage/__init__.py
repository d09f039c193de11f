"""Storage of records: their bytes, LMDB shards of them, and stores of shards that can be read, verified, inspected."""
