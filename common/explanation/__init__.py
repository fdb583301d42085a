"""Where a model looks: class-activation maps, LIME, and how faithful such maps are."""
