"""The procedures: one training, and the grids of trainings behind the tables and the sweep."""
