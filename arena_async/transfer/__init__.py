"""Bringing files home: what to do with each, the bytes on their way to the disk, the commit, the memory of it all."""
