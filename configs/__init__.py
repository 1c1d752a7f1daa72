"""Settings of the scripts, one file for each group; scripts import them from `config`."""
