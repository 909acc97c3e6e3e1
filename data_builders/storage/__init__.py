"""How rows are built once and read back: archives, downloads, builders, memory-mapped rows and vocabularies."""
