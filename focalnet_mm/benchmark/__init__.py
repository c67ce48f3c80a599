"""FocalNet measured beside its peers."""
