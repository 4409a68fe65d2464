"""What Prometheus can read."""
