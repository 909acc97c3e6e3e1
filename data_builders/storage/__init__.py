"""How rows are made once and read back: archives, downloads, builders, memory-mapped rows, vocabularies."""
