"""Methods that split a weight matrix into factors."""
