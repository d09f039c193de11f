"""Modules that change a store: ledger, versions, compaction, mirrors."""
