"""From a table and a recipe to a trained, evaluated and judged model."""

from modelyard.train.progress import Progress
from modelyard.train.recipe import Recipe, load_recipe, recipe_for
from modelyard.train.training import Trained, train

__all__ = ["Progress", "Recipe", "Trained", "load_recipe", "recipe_for", "train"]
