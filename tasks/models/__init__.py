"""Network weights: which files a stage needs, where they are found, how they are fetched."""
