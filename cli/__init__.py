"""The command `mine`: builds the pieces from the configuration, calls the story, prints."""
