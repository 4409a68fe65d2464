"""Plans: compiled graphs kept on disk, and used again only where nothing has changed."""
