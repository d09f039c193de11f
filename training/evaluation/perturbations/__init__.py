"""Image perturbations for robustness tests."""
