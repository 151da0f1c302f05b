"""The sections of tools/benchmark.py, a module each, and what they share."""
