"""From prepared records to balanced batches of 16-bit waveforms."""
