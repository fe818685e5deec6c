"""The network, the LightningModule, and features that are kept."""
