"""Meta-training and evaluation on episodes. It reads no data: `data_builders` stands above it."""
