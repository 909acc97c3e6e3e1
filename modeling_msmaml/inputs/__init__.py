"""
Reading: from anything that a person hands in (files, arrays, strings, images) to the raw rows that the model takes.

The folder is flat, since its files travel with the processor of a checkpoint: they import each other as siblings only.
"""
