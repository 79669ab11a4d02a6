"""Recipes: TOML files with the settings of a run: net, initialization, input and learning."""
