"""When jobs run, where, and what became of them."""
