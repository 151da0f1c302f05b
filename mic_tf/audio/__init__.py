"""Files from people: found, read, resampled, cut into windows."""
