"""Recipes: the net, its first values, its input and its learning settings, as TOML files."""
