"""The procedure: SimCLR (`pretraining`), one indicator's encoder (`indicator`), all of Bio-U-Net (`pipeline`), its grids and baselines."""
