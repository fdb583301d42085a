"""What the commands do: one run, the grids behind the tables, the baselines, all tables again."""
