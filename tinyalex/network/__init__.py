"""Networks: stages of columns on devices, built from the settings of a recipe."""
