"""Assignment of videos to train, val and test by leakage group."""
