"""Parts that HTML and Markdown reports share: Jinja environment, base template, style sheet, tables."""
