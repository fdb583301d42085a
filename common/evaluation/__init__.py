"""Predictions to numbers, figures and reports; each step reads only the files of the step before it."""
