"""HOW records are kept: records ↔ bytes ↔ LMDB shards ↔ a store that can be read, verified and inspected."""
