"""From anything that a person hands in to one raw row. Flat, since it travels with the processor of a checkpoint."""
