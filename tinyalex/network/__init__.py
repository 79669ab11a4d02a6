"""Networks: stages of columns on devices, built from a recipe's switches."""
