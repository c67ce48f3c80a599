"""From one's own data to a config that trains, and whether a config and its data fit together."""
