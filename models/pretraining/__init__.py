"""How the network of the wheel is made: series that never were, real ones, and the loop over them."""
