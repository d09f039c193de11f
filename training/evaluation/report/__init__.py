"""The evaluation report: figures, Markdown, HTML page."""
