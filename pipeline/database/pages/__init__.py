"""What the page and people ask of the database."""
