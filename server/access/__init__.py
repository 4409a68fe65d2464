"""Who may do what: origins, tokens, tickets, and what one client may have."""
