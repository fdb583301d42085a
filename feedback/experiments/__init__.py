"""One module a command: its settings, the document's readings as instances of them, and the help page as its docstring. No Keras."""
