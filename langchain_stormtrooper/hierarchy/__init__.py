"""Labels in a tree, decided level by level: `HierarchicalClassifier`.

`runnable` is what users create; `tree` reads labels and is pure, `descent` is a row's way down the tree.
"""

from langchain_stormtrooper.hierarchy.runnable import HierarchicalClassifier

__all__ = ["HierarchicalClassifier"]
