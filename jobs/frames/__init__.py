"""Tables of a user's own to a history on the grid, and back."""
