"""The settings of every command, one module each: effective values with their sections, and the readings as instances. No Keras."""
