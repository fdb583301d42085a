"""Images on disk to batches: manifest, splits, audit, decoding and caches, augmentation, the embedded samples."""
