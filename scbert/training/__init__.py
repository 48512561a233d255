"""Training: the bridge, the first that sees both cells and the network."""
