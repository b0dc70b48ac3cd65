"""Image data sets: HDF5 files, sources of examples, pictures, data cards, named tensors."""
