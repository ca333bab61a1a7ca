"""History to a challenger, and the verdict on it."""
