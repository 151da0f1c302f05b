"""From balanced batches to a work folder that holds all a run knows."""
