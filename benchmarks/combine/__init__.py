"""What fusing bundles and adding names to a bundle keep of each name, on the embedded small model."""
