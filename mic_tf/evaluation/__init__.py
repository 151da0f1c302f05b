"""What a model is worth, under a protocol that is named."""
