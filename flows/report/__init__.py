"""The report of a store: totals, difference between versions, pages for people."""
