"""Writing: reports, tables, plots, model cards and predictions of finished runs."""
