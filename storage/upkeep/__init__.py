"""Writers of a store: ledger, versions, compaction, mirrors."""
