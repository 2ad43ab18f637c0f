"""Preprocessing with one Python object an element, as this project had it before: what its speed is compared with."""
