"""One module a command: its settings, the readings as instances of them, and its help page. Nothing heavy is imported here."""
