"""From a 16-bit waveform to logits, all of it on the device."""
