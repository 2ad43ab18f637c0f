"""The server's speed, side by side with others'."""
