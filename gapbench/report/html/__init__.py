"""The page of a results directory: `page` writes it; template, style sheet and script stand beside it."""
