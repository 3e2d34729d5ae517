"""The updates: losses as pure functions, one file per algorithm."""
