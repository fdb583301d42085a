"""The commands that every study has, one module each: what it does, its options and where it is done. Nothing heavy is imported here."""
