"""The files of deploy/: that they are valid, name only what exists, and work as far as they run here."""
