"""What test modules share. None of them imports another."""
