"""What the jobs ask of the database."""
