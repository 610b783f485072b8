"""Who computes the norms: ours in each way that it can be called, and the peers."""
