"""Report of an evaluation: its files, plots, Markdown and HTML page."""
