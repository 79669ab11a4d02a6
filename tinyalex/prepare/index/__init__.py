"""Finds image files and their labels in any layout."""
