"""A server under everything that production does to it, counted."""
