"""Pages for people: the Jinja environment, style sheet and Markdown helpers that every report shares."""
