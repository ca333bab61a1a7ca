"""What the stream's worker asks of the database."""
