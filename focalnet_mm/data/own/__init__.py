"""One's own pictures and annotations: what is in a folder, in whatever form."""
