"""The database adapters on SQLite and PostgreSQL."""
