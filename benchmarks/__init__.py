"""Programs that measure or show the library as a whole; nothing imports them."""
