"""What: bytes of a topic to records and back, and why a message is refused."""
