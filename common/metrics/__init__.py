"""Numbers: classification, overlap, calibration, intervals and the one comparison. Nothing here reads or writes a file."""
