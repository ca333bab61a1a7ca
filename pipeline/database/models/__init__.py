"""Which models there are, which one serves, and how they are calibrated."""
