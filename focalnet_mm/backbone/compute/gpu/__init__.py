"""FocalNet's block on GPUs, in Triton. Imported where it is chosen, and never with the package."""
