"""Looking at data: its splits, what is suspicious in it, and what can be mended."""
