"""The search graph: exact and approximate indexes, filters, and the signatures that a server offers."""
