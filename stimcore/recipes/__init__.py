"""Recipes: complete training configurations by name."""
