"""Builder that renders SoundFonts note by note."""
