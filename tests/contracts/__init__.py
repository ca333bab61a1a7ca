"""What every adapter of a port must do: one file a port, run over each adapter, and the rows they are tried with.

A subclass provides the fixtures. The database part: `database`, an open and empty tidecast database.
"""
