"""Methods that change the shape of the network."""
