"""Batches from stores: items, order, loader, augmentation."""
