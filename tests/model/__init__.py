"""The model: layers, networks, the inner loop."""
