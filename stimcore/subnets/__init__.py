"""What a network is made of, which of its blocks run, and the families of its sub-networks."""
