"""Around mmengine's runner: config, data, machine and model are checked and built here."""
