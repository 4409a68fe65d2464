"""LatentSync's second training stage, on one's own people: `python -m training.finetune`."""
