"""Training and evaluation of deepfake detectors on stores."""
