"""Builder over NSynth's jsonwav archives."""
