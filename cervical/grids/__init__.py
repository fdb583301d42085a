"""Commands that run many trainings and compare them: `tables`, `compare-losses`, `freeze-depth`."""
