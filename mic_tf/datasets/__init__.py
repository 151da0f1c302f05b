"""The data sets: their builders, their one schema, and the catalogue of names."""
