"""Old films, shown as a camera would film them: Merlin's MIB files, HDF5, and our own runs."""
