"""From files to batches: samples table, splits, preprocessing, the LightningDataModule."""
