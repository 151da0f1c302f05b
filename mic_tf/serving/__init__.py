"""From a trained model to answers: the exported graph, its contract, its users."""
