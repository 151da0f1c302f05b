"""Builder over a person's own recordings."""
