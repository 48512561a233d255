"""Simple classifiers of cell types beside the encoder, and how all of them answer as one."""
