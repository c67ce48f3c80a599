"""FocalNet's block on CPUs, through oneDNN."""
